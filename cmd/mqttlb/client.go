package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/config"
)

// defaultAddress is where mqttlb answers unless it is configured otherwise.
const defaultAddress = "http://127.0.0.1:9180"

// How long a command waits for an answer.
const (
	readPatience  = 10 * time.Second
	writePatience = 5 * time.Minute
)

// maxAnswer bounds an answer: --admin may point to something that is not mqttlb.
const maxAnswer = 256 << 20

// adminFlags are the flags of every command that talks to a running mqttlb.
type adminFlags struct{ admin, config, tokenFile string }

func (f *adminFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.admin, "admin", "", "where mqttlb answers: unix:/PATH, /PATH or http://HOST:PORT\n"+
		"(default: the configuration's, else "+adminSocket+" if it exists, else "+defaultAddress+")")
	c.Flags().StringVarP(&f.config, "config", "c", "", "configuration file to find the socket or address in")
}

// registerWrite is register for commands that change something.
func (f *adminFlags) registerWrite(c *cobra.Command) {
	f.register(c)
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "file with the bearer token, needed with --admin http://… (default: the configuration's)")
	// The same under the name that tells it from other tokens.
	c.Flags().StringVar(&f.tokenFile, "admin-token-file", "", "")
	_ = c.Flags().MarkHidden("admin-token-file")
}

// writer returns a client that may change something.
func (f *adminFlags) writer(e *environment) (*adminClient, error) {
	c, err := f.client(e)
	if err != nil {
		return nil, err
	}
	c.token, err = readToken(cmp.Or(f.tokenFile, c.tokenFile))
	return c, err
}

// readToken reads the file with the bearer token; no file means no token.
func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", usagef("the token cannot be read: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// client returns a client for the mqttlb that the flags mean.
func (f *adminFlags) client(e *environment) (*adminClient, error) {
	var cfg *config.Admin
	if f.config != "" && f.admin == "" {
		c, err := loadConfig(f.config, e)
		if err != nil {
			return nil, err
		}
		cfg = &c.Admin
	}
	where, err := adminTarget(f.admin, cfg, adminSocket)
	if err != nil {
		return nil, err
	}
	c, err := newAdminClient(where)
	if err == nil && cfg != nil && cfg.Socket == "" {
		c.tokenFile = cfg.TokenFile
	}
	return c, err
}

// adminTarget chooses where to find mqttlb: the flag, else the configuration, else the usual socket if
// it exists, else the usual address.
func adminTarget(flag string, cfg *config.Admin, socket string) (string, error) {
	switch {
	case flag != "":
		return flag, nil
	case cfg != nil && filepath.IsAbs(cfg.Socket):
		return cfg.Socket, nil
	case cfg != nil && cfg.Socket != "":
		return "unix:" + cfg.Socket, nil // --admin takes a relative path only so
	case cfg != nil && cfg.Address == "":
		return "", usagef("this configuration has neither admin.socket nor admin.address; nobody can ask that mqttlb")
	case cfg != nil:
		return "http://" + reachable(cfg.Address), nil
	}
	if _, err := os.Stat(socket); err == nil || errors.Is(err, fs.ErrPermission) {
		return socket, nil
	}
	return defaultAddress, nil
}

// reachable turns an address to listen on into one to connect to.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// An adminClient asks one mqttlb. It is for one command: connections are not kept.
type adminClient struct {
	http  *http.Client
	base  string // scheme and host
	where string // for people
	// token allows writes over TCP; empty sends none. tokenFile is where the configuration keeps it.
	token, tokenFile string
}

func newAdminClient(where string) (*adminClient, error) {
	c := &adminClient{where: where}
	// The zero Transport heeds no HTTP_PROXY: mqttlb is asked directly.
	transport := &http.Transport{DisableKeepAlives: true}
	path, isSocket := strings.CutPrefix(where, "unix:")
	if isSocket || strings.HasPrefix(where, "/") {
		c.base = "http://mqttlb"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	} else {
		u, err := url.Parse(where)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return nil, usagef("invalid --admin %q; use unix:/PATH, /PATH or http://HOST:PORT", where)
		}
		c.base = u.Scheme + "://" + u.Host
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// get reads an answer of the API.
func (c *adminClient) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodGet, path, nil, readPatience, into)
}

// post changes something. A nil request has no body.
func (c *adminClient) post(ctx context.Context, path string, request, into any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return err
		}
	}
	return c.call(ctx, http.MethodPost, path, body, writePatience, into)
}

// An apiError is what mqttlb has answered instead of doing what was asked for.
type apiError struct {
	status  int
	message string
}

func (e *apiError) Error() string { return e.message }

func (c *adminClient) call(ctx context.Context, method, path string, request []byte, patience time.Duration, into any) error {
	status, body, err := c.ask(ctx, method, path, request, patience)
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(body, into); err != nil {
			return fmt.Errorf("%s has sent something that is not JSON; is it mqttlb?", c.where)
		}
		return nil
	}
	return c.failure(status, body)
}

// failure is the error of an answer that is not 200.
func (c *adminClient) failure(status int, body []byte) error {
	var failure admin.Failure
	if err := json.Unmarshal(body, &failure); err != nil || failure.Error == "" {
		return fmt.Errorf("%s has answered %d %s; is it mqttlb?", c.where, status, http.StatusText(status))
	}
	return &apiError{status, harmlessLines(failure.Error)}
}

// request prepares a request; no body is nil.
func (c *adminClient) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return request, nil
}

// ask sends a request and returns the answer, whatever it is.
func (c *adminClient) ask(ctx context.Context, method, path string, content []byte, patience time.Duration) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := c.request(ctx, method, path, content)
	if err != nil {
		return 0, nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, c.unreachable(err, patience)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, c.unreachable(err, patience)
	}
	return response.StatusCode, bytes.TrimSpace(body), nil
}

// unreachable says what to do when there is no answer.
func (c *adminClient) unreachable(err error, patience time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", patience)
	} else if number, ok := errors.AsType[syscall.Errno](err); ok {
		err = number // the message names the address already
	} else if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	hint := "is it running? say where with -c FILE or --admin"
	if errors.Is(err, fs.ErrPermission) {
		hint = "use an account of the socket's group, or --admin " + defaultAddress
	}
	return fmt.Errorf("cannot reach mqttlb at %s: %w; %s", c.where, err, hint)
}

// harmlessLines is harmless for a text of several lines.
func harmlessLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = harmless(strings.TrimRight(l, "\r"))
	}
	return strings.Join(lines, "\n")
}
