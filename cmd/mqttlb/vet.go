package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
)

// vet finds the mistakes in a configuration that only the packages behind its keys can see, and files with
// secrets that cannot be read, so that both are told at their place in the file and before anything has
// changed. It is a config.Options.Check.
func vet(cfg *config.Config, wrong func(path, msg string)) {
	vetState("instance.state_file", cfg.Instance.StateFile, wrong)
	vetTLS(cfg, wrong)
	for i := range cfg.Clusters {
		c, path := &cfg.Clusters[i], fmt.Sprintf("clusters[%d]", i)
		vetKeys(path+".discovery.s3", c.Discovery.S3, wrong)
		vetLoad(path+".load", &c.Load, wrong)
		vetHealth(path+".health", &c.Health, cfg.Instance.Name, wrong)
	}
}

// vetState looks for the place of the state file.
func vetState(path, file string, wrong func(path, msg string)) {
	if file == "" {
		return
	}
	if folder, err := os.Stat(filepath.Dir(file)); err != nil {
		wrong(path, fmt.Sprintf("is %q, and its folder cannot be used: %v; create the folder", file, err))
	} else if !folder.IsDir() {
		wrong(path, fmt.Sprintf("is %q, but %s is no folder", file, filepath.Dir(file)))
	} else if there, err := os.Stat(file); err == nil && !there.Mode().IsRegular() {
		wrong(path, fmt.Sprintf("is %q, which is no file; name a file that mqttlb may create", file))
	}
}

// vetKeys reads the keys for S3.
func vetKeys(path string, s *config.S3Source, wrong func(path, msg string)) {
	if s == nil {
		return
	}
	for _, file := range []struct{ key, name string }{
		{"access_key_file", s.AccessKeyFile}, {"secret_key_file", s.SecretKeyFile}, {"session_token_file", s.SessionTokenFile},
	} {
		if file.name == "" {
			continue
		}
		if text, err := os.ReadFile(file.name); err != nil {
			wrong(path+"."+file.key, "cannot be read: "+err.Error())
		} else if strings.TrimSpace(string(text)) == "" {
			wrong(path+"."+file.key, fmt.Sprintf("names %s, which is empty", file.name))
		}
	}
}

// vetLoad has the load's settings read by who will use them.
func vetLoad(path string, l *config.BrokerLoad, wrong func(path, msg string)) {
	if !l.Enabled() {
		return
	}
	o := scrapeOptions(l)
	o.Clock, o.OnReading = func() int64 { return 1 }, func(scrape.Reading) {}
	_, err := scrape.New(o)
	for _, err := range unjoin(err) {
		if field, ok := errors.AsType[*scrape.FieldError](err); ok {
			wrong(path+"."+field.Field, field.Msg)
		} else {
			wrong(path, "cannot be used: "+err.Error())
		}
	}
}

// scrapeOptions are the settings of a scraper, as far as they are in the configuration.
func scrapeOptions(l *config.BrokerLoad) scrape.Options {
	o := scrape.Options{
		Preset: l.Preset, URL: l.URL, Interval: l.Interval, Timeout: l.Timeout, Window: l.Window, Hot: l.Hot.Metric,
		Version:         scrape.VersionOptions{Metric: l.Version.Metric, Label: l.Version.Label},
		BearerTokenFile: l.BearerTokenFile, Username: l.Username, PasswordFile: l.PasswordFile,
	}
	for _, f := range l.Figures {
		o.Figures = append(o.Figures, scrape.FigureOptions{Metric: f.Metric, Scale: f.Scale, Weight: f.Weight})
	}
	return o
}

// vetHealth has a probe's settings read by who will use them.
func vetHealth(path string, h *config.Health, instance string, wrong func(path, msg string)) {
	if !h.Enabled() {
		return
	}
	if h.HTTP != nil {
		if _, err := health.NewHTTP(health.HTTPOptions{URL: h.HTTP.URL, Instance: instance}); err != nil {
			wrong(path+".http.url", "cannot be used: "+err.Error())
		}
	}
	if h.MQTT == nil {
		return
	}
	o := health.MQTTOptions{ClientID: h.MQTT.ClientID, Username: h.MQTT.Username, Instance: instance}
	if _, err := health.NewMQTT(o); err != nil {
		wrong(path+".mqtt.client_id", "cannot be used: "+err.Error())
		return
	}
	o.PasswordFile = h.MQTT.PasswordFile
	if _, err := health.NewMQTT(o); err != nil {
		wrong(path+".mqtt.password_file", "cannot be used: "+err.Error())
	}
}

// unjoin is the inverse of errors.Join.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
