//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hiveMQs are several HiveMQ Community Edition in one JVM. They are no cluster: that edition has none.
type hiveMQs struct {
	*process
	brokers []backend // n1, n2 and so on
	log     *logBook
	orders  io.Writer
}

// startHiveMQs runs n brokers, each with its defaults but for this XML of its configuration, and waits until they
// listen. They keep everything in memory.
func startHiveMQs(t *testing.T, n int, configuration string) *hiveMQs {
	t.Helper()
	h := &hiveMQs{log: newLogBook()}
	args := []string{"Brokers.java"}
	for i := range n {
		b := backend{fmt.Sprint("n", i+1), loopback(t)}
		h.brokers = append(h.brokers, b)
		folder := t.TempDir()
		args = append(args, folder)
		for _, name := range []string{"conf", "data", "extensions"} {
			if err := os.Mkdir(filepath.Join(folder, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		host, port, _ := net.SplitHostPort(b.address)
		text := fmt.Sprintf(`<hivemq>
	<listeners><tcp-listener><port>%s</port><bind-address>%s</bind-address></tcp-listener></listeners>
	<persistence><mode>in-memory</mode></persistence>
	<anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
	%s
</hivemq>
`, port, host, configuration)
		if err := os.WriteFile(filepath.Join(folder, "conf", "config.xml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := javaProgram(t, args...)
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.orders = orders
	h.process = start(t, h.log, cmd)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("HiveMQ says:\n%s", h.log)
		}
	})
	h.told(t, "started")
	return h
}

// told waits for a line of the program that runs the brokers.
func (h *hiveMQs) told(t *testing.T, what string) {
	t.Helper()
	eventually(t, time.Minute, "HiveMQ has "+what, func() bool {
		if !h.running() {
			t.Fatal("HiveMQ has ended")
		}
		text, _ := h.log.from(0)
		return strings.Contains("\n"+text, "\n"+what+"\n")
	})
}

// stop stops a broker as an operator does, which takes two seconds at least. It publishes so many wills in this time.
func (h *hiveMQs) stop(t *testing.T, number, wills int) {
	t.Helper()
	fmt.Fprintf(h.orders, "stop %d\n", number)
	h.told(t, fmt.Sprintf("stopped %d, wills: %d", number, wills))
}

// javaProgram is a command that runs one of the Java programs in the folder hivemq from its source.
func javaProgram(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cache := filepath.Join(cacheFolder(t), "hivemq")
	if why, err := os.ReadFile(filepath.Join(cache, "unavailable")); err == nil {
		t.Skip("HiveMQ cannot be had here, found e2e/install.sh: ", strings.TrimSpace(string(why)))
	}
	if _, err := os.Stat(filepath.Join(cache, "pom.xml")); err != nil {
		lacks(t, "HiveMQ")
	}
	need(t, "java", "javac")
	here, err := filepath.Abs("hivemq")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("java", append([]string{
		"-Xmx192m", "-XX:MaxDirectMemorySize=128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dlogback.configurationFile=" + filepath.Join(here, "logback.xml"), "-cp", filepath.Join(cache, "lib", "*"),
	}, args...)...)
	cmd.Dir = here
	return cmd
}

// cacheFolder is where install.sh puts what is not a package of the system.
func cacheFolder(t *testing.T) string {
	t.Helper()
	if cache := os.Getenv("E2E_CACHE"); cache != "" {
		return cache
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(user, "mqttlb-e2e")
}
