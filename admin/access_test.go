package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

const secret = "0123456789abcdef0123456789abcdef"

func TestWhoMayWrite(t *testing.T) {
	t.Parallel()
	const (
		readOnly = "this address is read-only; use the unix socket, or set admin.token_file"
		missing  = `this needs the header "Authorization: Bearer TOKEN" with the token from admin.token_file`
		wrong    = "the token is wrong"
	)
	for _, test := range []struct {
		name, token, header string
		socket              bool
		status              int
		message             string
	}{
		{"tcp", "", "", false, 403, readOnly},
		{"tcp, token for nothing", "", "Bearer " + secret, false, 403, readOnly},
		{"tcp, no token", secret, "", false, 401, missing},
		{"tcp, other scheme", secret, "Basic " + secret, false, 401, missing},
		{"tcp, only the scheme", secret, "Bearer", false, 401, wrong},
		{"tcp, wrong token", secret, "Bearer " + strings.ToUpper(secret), false, 401, wrong},
		{"tcp, part of the token", secret, "Bearer " + secret[1:], false, 401, wrong},
		{"tcp, more than the token", secret, "Bearer " + secret + "x", false, 401, wrong},
		{"tcp, right token", secret, "Bearer " + secret, false, 200, ""},
		{"tcp, right token, other case of the scheme", secret, "bearer " + secret, false, 200, ""},
		{"tcp, white space around the token in the file", " " + secret + "\r\n", "Bearer " + secret, false, 200, ""},
		{"socket", "", "", true, 200, ""},
		{"socket, wrong token", secret, "Bearer x", true, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := oneCluster()
			var reloads atomic.Int32
			o.Reload = func(context.Context) error { reloads.Add(1); return nil }
			if test.token != "" {
				o.Token = []byte(test.token)
			}
			r := start(t, o)
			c, header := r.tcp, http.Header{}
			if test.socket {
				c = r.unix
			}
			if test.header != "" {
				header.Set("Authorization", test.header)
			}
			a := ask(t, c, http.MethodPost, "/api/v1/reload", header, nil)
			want, line := int32(0), `level=WARN msg="operator's request" method=POST path=/api/v1/reload`
			if test.status == http.StatusOK {
				want, line = 1, `level=INFO msg="operator's request" method=POST path=/api/v1/reload`
				as[Reloaded](t, a)
			} else {
				failed(t, a, test.status, test.message)
			}
			if got := reloads.Load(); got != want {
				t.Errorf("got %d reloads, want %d", got, want)
			}
			if got := a.header.Get("WWW-Authenticate"); (got != "") != (test.status == 401) {
				t.Errorf("got WWW-Authenticate %q with status %d", got, a.status)
			}
			r.stop() // the line comes after the answer
			from := "remote=127.0.0.1:"
			if test.socket {
				from = fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
			}
			for _, part := range []string{line, fmt.Sprintf("status=%d", test.status), from} {
				if !strings.Contains(r.log.String(), part) {
					t.Errorf("the log lacks %q:\n%s", part, r.log)
				}
			}
			if strings.Contains(r.log.String(), secret) {
				t.Error("the token is in the log")
			}
		})
	}
}

// Whoever tries tokens must not fill the disk.
func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	t.Parallel()
	r := start(t, oneCluster())
	r.refusals.Store(1 << 62) // the last line was in the year 2116
	for range 5 {
		ask(t, r.tcp, http.MethodPost, "/api/v1/reload", nil, nil)
	}
	r.stop()
	if r.log.String() != "" {
		t.Errorf("got a line, want none:\n%s", r.log)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, content, message string }{
		{"empty", "", "admin: the token has 0 characters, it needs at least 32; make one with: openssl rand -hex 32"},
		{"blank", strings.Repeat(" ", 40) + "\n", "admin: the token has 0 characters, it needs at least 32; make one with: openssl rand -hex 32"},
		{"short", secret[1:] + "\n", "admin: the token has 31 characters, it needs at least 32; make one with: openssl rand -hex 32"},
		{"space inside", secret + " x", "admin: the token contains the character ' '; it must be printable ASCII without spaces"},
		{"two lines", secret + "\n" + secret, `admin: the token contains the character '\n'; it must be printable ASCII without spaces`},
		{"not ASCII", secret + "\xff", `admin: the token contains the character 'ÿ'; it must be printable ASCII without spaces`},
		{"just long enough", secret, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(Options{Token: []byte(test.content), Log: slog.New(slog.DiscardHandler)})
			if got := fmt.Sprint(err); err != nil && got != test.message || err == nil && test.message != "" {
				t.Errorf("got %q, want %q", got, test.message)
			}
		})
	}
}

func TestReloadFails(t *testing.T) {
	t.Parallel()
	o := oneCluster()
	o.Reload = func(context.Context) error { return errors.New("mqttlb.yaml:3:5: unknown key \"lisen\"") }
	r := start(t, o)
	failed(t, ask(t, r.unix, http.MethodPost, "/api/v1/reload", nil, nil), http.StatusInternalServerError,
		"not reloaded: mqttlb.yaml:3:5: unknown key \"lisen\"")
}

// A reload that has begun goes on when nobody waits for it any more.
func TestReloadOutlivesItsClient(t *testing.T) {
	t.Parallel()
	o := oneCluster()
	o.Reload = func(ctx context.Context) error {
		if ctx.Done() != nil {
			return errors.New("the context can end")
		}
		return nil
	}
	r := start(t, o)
	as[Reloaded](t, ask(t, r.unix, http.MethodPost, "/api/v1/reload", nil, nil))
}

// Requests in flight are answered at the end.
func TestStopWaitsForRequests(t *testing.T) {
	t.Parallel()
	o := oneCluster()
	begun, finish := make(chan struct{}), make(chan struct{})
	o.Reload = func(context.Context) error {
		close(begun)
		<-finish
		return nil
	}
	r := start(t, o)
	stopped := make(chan struct{})
	go func() {
		<-begun
		go func() {
			defer close(stopped)
			r.stop()
		}()
		// When nobody can come in any more, the stop has begun.
		for {
			response, err := r.tcp.Get("http://mqttlb/livez")
			if err != nil {
				break
			}
			response.Body.Close()
		}
		close(finish)
	}()
	as[Reloaded](t, ask(t, r.unix, http.MethodPost, "/api/v1/reload", nil, nil))
	<-stopped
}
