package check

import (
	"bufio"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// target are the labels that Prometheus adds.
var target = []string{"job", "instance"}

// foreign are the metrics that are not mqttlb's own: of Prometheus, and of the library that mqttlb uses.
var foreign = []string{
	"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
	"process_start_time_seconds", "go_goroutines",
}

// known are the metrics that there are, with the labels of each.
func known(t *testing.T) map[string][]string {
	t.Helper()
	file, err := os.Open("../../metrics/testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	list := make(map[string][]string)
	for _, name := range foreign {
		list[name] = target
	}
	label := regexp.MustCompile(`([a-z_]+)="`)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), " ")
		if name == "#" {
			continue
		}
		name, rest, _ = strings.Cut(name+" "+rest, "{")
		name, _, _ = strings.Cut(name, " ")
		all := slices.Clone(target)
		for _, m := range label.FindAllStringSubmatch(rest, -1) {
			all = append(all, m[1])
		}
		list[name] = all
	}
	if len(list) < 60 {
		t.Fatalf("got %d metrics; is the test blind?", len(list))
	}
	return list
}

// words are the texts in mqttlb's code, for values of labels.
func words(t *testing.T) map[string]bool {
	t.Helper()
	quoted := regexp.MustCompile(`"([a-z_]+)"`)
	found := make(map[string]bool)
	for _, folder := range []string{"balancer", "cluster", "health", "metrics", "proxy"} {
		err := filepath.WalkDir("../../"+folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range quoted.FindAllSubmatch(text, -1) {
				found[string(m[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// checkQuery reports what in a query mqttlb does not know: metrics, labels, and values of labels.
func checkQuery(t *testing.T, where, query string, metrics map[string][]string, values map[string]bool) {
	t.Helper()
	expr, err := parser.ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			has, ok := metrics[node.Name]
			if !ok {
				t.Errorf("%s: there is no metric %s", where, node.Name)
				return nil
			}
			for _, m := range node.LabelMatchers {
				if m.Name == "__name__" {
					continue
				}
				if !slices.Contains(has, m.Name) {
					t.Errorf("%s: %s has no label %s", where, node.Name, m.Name)
				}
				if !slices.Contains([]string{"state", "phase", "reason", "result"}, m.Name) {
					continue
				}
				for value := range strings.SplitSeq(m.Value, "|") {
					if !values[value] {
						t.Errorf("%s: mqttlb knows no %s %q", where, m.Name, value)
					}
				}
			}
		case *parser.AggregateExpr:
			checkLabels(t, where, node.Expr, node.Grouping, metrics)
		}
		return nil
	})
}

// checkLabels reports labels that no metric in expr has.
func checkLabels(t *testing.T, where string, expr parser.Node, names []string, metrics map[string][]string) {
	t.Helper()
	var has []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			has = append(has, metrics[v.Name]...)
		}
		return nil
	})
	for _, name := range names {
		if !slices.Contains(has, name) {
			t.Errorf("%s: nothing in %s has the label %s", where, expr, name)
		}
	}
}

// A dashboard is as much of Grafana's format as the tests look at.
type dashboard struct {
	SchemaVersion int `json:"schemaVersion"`
	Panels        []struct {
		ID          int    `json:"id"`
		Type        string `json:"type"`
		Title       string `json:"title"`
		Description string `json:"description"`
		GridPos     struct {
			X, Y, W, H int
		} `json:"gridPos"`
		Targets []struct {
			Expr         string `json:"expr"`
			LegendFormat string `json:"legendFormat"`
		} `json:"targets"`
	} `json:"panels"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

// plain is a query without Grafana's variables, which are no PromQL.
var plain = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$cluster", ".*")

func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../grafana/mqttlb.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	metrics, values := known(t), words(t)
	legend := regexp.MustCompile(`{{(\w+)}}`)
	used := make(map[string]bool)
	rows, ids, taken := 0, make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: another panel has the id %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows++
			continue
		}
		if p.Description == "" || strings.Contains(p.Description, "\n") || len(p.Description) > 160 || len(p.Targets) == 0 {
			t.Errorf("%s: got the description %q and %d queries, want one line and at least one", p.Title, p.Description, len(p.Targets))
		}
		for _, query := range p.Targets {
			checkQuery(t, p.Title, plain.Replace(query.Expr), metrics, values)
			expr, err := parser.ParseExpr(plain.Replace(query.Expr))
			if err != nil {
				continue
			}
			for _, m := range legend.FindAllStringSubmatch(query.LegendFormat, -1) {
				checkLabels(t, p.Title, expr, m[1:], metrics)
			}
			parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
				if v, ok := node.(*parser.VectorSelector); ok {
					used[v.Name] = true
				}
				return nil
			})
		}
	}
	if want := 6; rows != want || d.SchemaVersion < 38 {
		t.Errorf("got %d rows and schema %d, want %d rows and the schema of Grafana 10", rows, d.SchemaVersion, want)
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			name := regexp.MustCompile(`^label_values\((\w+)(?:{.*})?, (\w+)\)$`).FindStringSubmatch(v.Definition)
			if name == nil || !slices.Contains(metrics[name[1]], name[2]) {
				t.Errorf("variable %s: there is nothing for %s", v.Name, v.Definition)
			}
		}
	}
	checkAllShown(t, metrics, used)
}

// unseen are the metrics that no panel shows, each for a reason: those of alerts, and details that are looked up by name
// when something else has told to.
var unseen = []string{
	"mqttlb_backend_load_timestamp_seconds", "mqttlb_certificate_reloads_total", "mqttlb_config_last_reload_success_timestamp_seconds",
	"mqttlb_config_reloads_total", "mqttlb_discovery_last_success_timestamp_seconds", "mqttlb_learned_clients", "mqttlb_levelling",
	"mqttlb_memory_pressure", "mqttlb_nonconforming_total", "mqttlb_proxy_header_trimmed_total", "mqttlb_redirects_total",
}

// Whoever adds a metric decides whether it belongs on the dashboard.
func checkAllShown(t *testing.T, metrics map[string][]string, used map[string]bool) {
	t.Helper()
	for name := range metrics {
		if histogram := regexp.MustCompile(`_(sum|count)$`).ReplaceAllString(name, "_bucket"); used[name] || used[histogram] || slices.Contains(foreign, name) {
			continue
		}
		if !slices.Contains(unseen, name) {
			t.Errorf("no panel shows %s; add one, or name it among the unseen", name)
		}
	}
	for _, name := range unseen {
		if used[name] || metrics[name] == nil {
			t.Errorf("%s is among the unseen, and is shown, or does not exist", name)
		}
	}
}

// rules is a file of rules for Prometheus.
type rules struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []struct {
			Alert       string            `json:"alert"`
			Record      string            `json:"record"`
			Expr        string            `json:"expr"`
			For         string            `json:"for"`
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"rules"`
	} `json:"groups"`
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	read := func(path string, to any) string {
		text, err := os.ReadFile(path)
		if err == nil && to != nil {
			err = yaml.UnmarshalStrict(text, to)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return string(text)
	}
	var r rules
	read("../prometheus/alerts.yaml", &r)
	tests, page := read("../prometheus/alerts_test.yaml", nil), read("../../docs/alerts.md", nil)
	metrics, values := known(t), words(t)
	alerts := make(map[string]bool)
	label := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, group := range r.Groups {
		for _, rule := range group.Rules {
			if rule.Record != "" {
				metrics[rule.Record] = []string{"job", "cluster", "backend"}
				checkQuery(t, rule.Record, rule.Expr, metrics, values)
				continue
			}
			name := rule.Alert
			alerts[name] = true
			checkQuery(t, name, rule.Expr, metrics, values)
			if expr, err := parser.ParseExpr(rule.Expr); err == nil {
				for _, m := range label.FindAllStringSubmatch(rule.Annotations["summary"], -1) {
					checkLabels(t, name, expr, m[1:], metrics)
				}
			}
			if severity := rule.Labels["severity"]; rule.For == "" || rule.Annotations["summary"] == "" || !slices.Contains([]string{"critical", "warning", "info"}, severity) {
				t.Errorf("%s: got for %q, severity %q, summary %q", name, rule.For, severity, rule.Annotations["summary"])
			}
			if want := "https://github.com/mqttlb/mqttlb/blob/main/docs/alerts.md#" + strings.ToLower(name); rule.Annotations["runbook_url"] != want {
				t.Errorf("%s: got runbook %s, want %s", name, rule.Annotations["runbook_url"], want)
			}
			if !strings.Contains(page, "\n### "+name+"\n") {
				t.Errorf("docs/alerts.md does not explain %s", name)
			}
			if !strings.Contains(tests, "\n      - alertname: "+name+"\n") || !strings.Contains(tests, "\n      - {alertname: "+name+", eval_time: 2h}\n") {
				t.Errorf("alerts_test.yaml does not have %s both fire and, when all is well, be silent", name)
			}
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(page, -1) {
		if !alerts[m[1]] {
			t.Errorf("docs/alerts.md explains %s, which does not exist", m[1])
		}
	}
}

// The alerts come when they should, by Prometheus' own judgement.
func TestAlertsFire(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("E2E_REQUIRED") == "1" {
			t.Fatal("promtool is missing; e2e/install.sh installs it")
		}
		t.Skip("promtool is missing; on Debian it is in the package prometheus")
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", "../prometheus/alerts_test.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
