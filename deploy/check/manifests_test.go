package check

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// objects is what a folder of manifests makes, each kind by its names.
type objects struct {
	accounts    map[string]*corev1.ServiceAccount
	configs     map[string]*corev1.ConfigMap
	services    map[string]*corev1.Service
	deployments map[string]*appsv1.Deployment
	budgets     map[string]*policyv1.PodDisruptionBudget
	policies    map[string]*networkingv1.NetworkPolicy
}

// build does what kubectl apply -k does before it sends anything. A key that Kubernetes does not know, or a value of the
// wrong type, is an error.
func build(t *testing.T, folder string) objects {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("../kubernetes", folder))
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	o := objects{
		map[string]*corev1.ServiceAccount{},
		map[string]*corev1.ConfigMap{},
		map[string]*corev1.Service{},
		map[string]*appsv1.Deployment{},
		map[string]*policyv1.PodDisruptionBudget{},
		map[string]*networkingv1.NetworkPolicy{},
	}
	for _, r := range made.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Fatalf("%s %s: %v", r.GetKind(), r.GetName(), err)
		}
		switch object := object.(type) {
		case *corev1.ServiceAccount:
			o.accounts[object.Name] = object
		case *corev1.ConfigMap:
			o.configs[object.Name] = object
		case *corev1.Service:
			o.services[object.Name] = object
		case *appsv1.Deployment:
			o.deployments[object.Name] = object
		case *policyv1.PodDisruptionBudget:
			o.budgets[object.Name] = object
		case *networkingv1.NetworkPolicy:
			o.policies[object.Name] = object
		default:
			t.Errorf("got a %s, which nobody checks", r.GetKind())
		}
	}
	return o
}

// settings is what the manifests must agree with in mqttlb's configuration. That the rest of it is valid is tested in
// cmd/mqttlb.
type settings struct {
	Instance struct {
		Count int32 `json:"count"`
	} `json:"instance"`
	Admin struct {
		Address string `json:"address"`
		Socket  string `json:"socket"`
	} `json:"admin"`
	Shutdown struct {
		Grace string `json:"grace"`
		Drain string `json:"drain"`
	} `json:"shutdown"`
	Listeners []struct {
		Name          string `json:"name"`
		Address       string `json:"address"`
		ProxyProtocol struct {
			Trusted []string `json:"trusted"`
		} `json:"proxy_protocol"`
		TLS struct {
			Certificates []struct {
				Cert string `json:"cert"`
				Key  string `json:"key"`
			} `json:"certificates"`
		} `json:"tls"`
	} `json:"listeners"`
	Clusters []struct {
		Discovery struct {
			DNS struct {
				Name string `json:"name"`
			} `json:"dns"`
		} `json:"discovery"`
	} `json:"clusters"`
}

func readSettings(t *testing.T, o objects) settings {
	t.Helper()
	var s settings
	if err := yaml.Unmarshal([]byte(o.configs["mqttlb"].Data["mqttlb.yaml"]), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// folders are all that somebody may apply.
func folders(t *testing.T) []string {
	t.Helper()
	overlays, err := filepath.Glob("../kubernetes/overlays/*")
	if err != nil || len(overlays) < 2 {
		t.Fatalf("got overlays %v (error %v)", overlays, err)
	}
	list := []string{"base"}
	for _, path := range overlays {
		list = append(list, filepath.Join("overlays", filepath.Base(path)))
	}
	return list
}

func TestManifests(t *testing.T) {
	t.Parallel()
	for _, folder := range folders(t) {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			o := build(t, folder)
			d, s := o.deployments["mqttlb"], readSettings(t, o)
			if d == nil || len(d.Spec.Template.Spec.Containers) != 1 {
				t.Fatal("got no Deployment mqttlb with one container")
			}
			checkSelectors(t, o)
			checkPorts(t, o, s)
			checkEnd(t, o, s)
			checkFiles(t, o, s)
			checkRights(t, o)
		})
	}
}

// Whatever selects pods of mqttlb finds those of the Deployment.
func checkSelectors(t *testing.T, o objects) {
	t.Helper()
	d := o.deployments["mqttlb"]
	pod := labels.Set(d.Spec.Template.Labels)
	selectors := map[string]*metav1.LabelSelector{
		"the Deployment": d.Spec.Selector, "the budget": o.budgets["mqttlb"].Spec.Selector, "the policy": &o.policies["mqttlb"].Spec.PodSelector,
	}
	for i := range d.Spec.Template.Spec.TopologySpreadConstraints {
		selectors["spread "+d.Spec.Template.Spec.TopologySpreadConstraints[i].TopologyKey] = d.Spec.Template.Spec.TopologySpreadConstraints[i].LabelSelector
	}
	for who, selector := range selectors {
		if found, err := metav1.LabelSelectorAsSelector(selector); err != nil || found.Empty() || !found.Matches(pod) {
			t.Errorf("%s selects %v, which pods with %v do not have (error %v)", who, selector, pod, err)
		}
	}
	for _, name := range []string{"mqttlb", "mqttlb-metrics"} {
		if selector := labels.SelectorFromSet(o.services[name].Spec.Selector); selector.Empty() || !selector.Matches(pod) {
			t.Errorf("Service %s selects %v, which pods with %v do not have", name, selector, pod)
		}
	}
	brokers := o.services["hivemq-mqtt"].Spec.Selector
	allowed := o.policies["mqttlb"].Spec.Egress[0].To[0].PodSelector.MatchLabels
	if !maps.Equal(brokers, allowed) {
		t.Errorf("Service hivemq-mqtt selects %v, and the policy lets mqttlb go to %v", brokers, allowed)
	}
}

// Each port is the same for mqttlb, its pod, its probes, its Services and the NetworkPolicy.
func checkPorts(t *testing.T, o objects, s settings) {
	t.Helper()
	container := o.deployments["mqttlb"].Spec.Template.Spec.Containers[0]
	ports := make(map[string]int32)
	for _, p := range container.Ports {
		ports[p.Name] = p.ContainerPort
	}
	want := map[string]int32{"metrics": portOf(t, s.Admin.Address)}
	for _, l := range s.Listeners {
		want[l.Name] = portOf(t, l.Address)
	}
	if !maps.Equal(ports, want) {
		t.Errorf("the container has ports %v, mqttlb listens on %v", ports, want)
	}
	for name, probe := range map[string]*corev1.Probe{"startup": container.StartupProbe, "liveness": container.LivenessProbe, "readiness": container.ReadinessProbe} {
		if wantPath := map[bool]string{true: "/readyz", false: "/livez"}[name == "readiness"]; probe.HTTPGet.Path != wantPath || probe.HTTPGet.Port.StrVal != "metrics" {
			t.Errorf("the %s probe asks %s at port %s, want %s at metrics", name, probe.HTTPGet.Path, probe.HTTPGet.Port.String(), wantPath)
		}
	}
	served := make(map[string]bool)
	for _, name := range []string{"mqttlb", "mqttlb-metrics"} {
		for _, p := range o.services[name].Spec.Ports {
			if p.Port != ports[p.TargetPort.StrVal] {
				t.Errorf("Service %s leads port %d to %s, which is %d", name, p.Port, p.TargetPort.StrVal, ports[p.TargetPort.StrVal])
			}
			served[p.TargetPort.StrVal] = true
		}
	}
	allowed := make(map[string]bool)
	for _, rule := range o.policies["mqttlb"].Spec.Ingress {
		for _, p := range rule.Ports {
			allowed[p.Port.StrVal] = true
		}
	}
	for name := range ports {
		if !served[name] || !allowed[name] {
			t.Errorf("port %s: has a Service %t, is let in by the NetworkPolicy %t", name, served[name], allowed[name])
		}
	}
	if _, service, _ := strings.Cut(s.Clusters[0].Discovery.DNS.Name, "_mqtt._tcp."); o.services[service] == nil || o.services[service].Spec.Ports[0].Name != "mqtt" {
		t.Errorf("discovery asks for %s, and there is no such Service with a port mqtt", s.Clusters[0].Discovery.DNS.Name)
	}
}

func portOf(t *testing.T, address string) int32 {
	t.Helper()
	port := intstr.Parse(strings.TrimPrefix(address, ":"))
	if port.Type != intstr.Int {
		t.Fatalf("got address %q, want a port on all interfaces", address)
	}
	return port.IntVal
}

// Kubernetes gives mqttlb the time that it wants for its end, and a pod that ends counts as ready while it takes clients.
func checkEnd(t *testing.T, o objects, s settings) {
	t.Helper()
	d := o.deployments["mqttlb"]
	grace, drain := duration(t, s.Shutdown.Grace), duration(t, s.Shutdown.Drain)
	given := time.Duration(*d.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
	if need := grace + drain + 10*time.Second; given <= need {
		t.Errorf("terminationGracePeriodSeconds is %v, want more than grace + drain + 10 s = %v", given, need)
	}
	ready := d.Spec.Template.Spec.Containers[0].ReadinessProbe
	if until := time.Duration(ready.PeriodSeconds*ready.FailureThreshold) * time.Second; until > grace {
		t.Errorf("a pod that ends is ready for up to %v, and takes clients for %v only", until, grace)
	}
	if replicas := *d.Spec.Replicas; replicas < 2 || int(replicas) <= o.budgets["mqttlb"].Spec.MaxUnavailable.IntValue() || replicas != s.Instance.Count {
		t.Errorf("got %d replicas, a budget of %v to be away, and instance.count %d", replicas, o.budgets["mqttlb"].Spec.MaxUnavailable, s.Instance.Count)
	}
	if r := d.Spec.Strategy.RollingUpdate; r.MaxUnavailable.IntValue() != 0 {
		t.Errorf("an update takes %v pods away before others are there", r.MaxUnavailable)
	}
	attributes := o.services["mqttlb"].Annotations["service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"]
	if fromNLB := len(s.Listeners[0].ProxyProtocol.Trusted) > 0; fromNLB != strings.Contains(attributes, "preserve_client_ip.enabled=false") {
		t.Errorf("PROXY headers expected: %t; attributes of the load balancer: %q", fromNLB, attributes)
	}
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil || d == 0 {
		t.Fatalf("got duration %q (error %v), want it to be written in mqttlb.yaml", text, err)
	}
	return d
}

// Every folder that mqttlb uses is mounted from a volume, as a whole, and every volume is used.
func checkFiles(t *testing.T, o objects, s settings) {
	t.Helper()
	pod := o.deployments["mqttlb"].Spec.Template.Spec
	mounts, used := make(map[string]string), make(map[string]bool)
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts[m.MountPath], used[m.Name] = m.Name, true
		if m.SubPath != "" {
			t.Errorf("%s is mounted with subPath, and would never be updated", m.MountPath)
		}
	}
	files := []string{pod.Containers[0].Args[2], s.Admin.Socket}
	for _, c := range s.Listeners[0].TLS.Certificates {
		files = append(files, c.Cert, c.Key)
	}
	for _, f := range files {
		if mounts[filepath.Dir(f)] == "" {
			t.Errorf("%s is in no volume", f)
		}
	}
	for _, v := range pod.Volumes {
		if !used[v.Name] {
			t.Errorf("volume %s is not mounted", v.Name)
		}
		if v.ConfigMap != nil && o.configs[v.ConfigMap.Name] == nil {
			t.Errorf("there is no ConfigMap %s", v.ConfigMap.Name)
		}
		if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440) {
			t.Errorf("the files of Secret %s have mode %v, want 0440", v.Secret.SecretName, v.Secret.DefaultMode)
		}
	}
	if pod.Containers[0].Args[2] != "/etc/mqttlb/mqttlb.yaml" || o.configs["mqttlb"].Data["mqttlb.yaml"] == "" {
		t.Errorf("got arguments %q and keys %q", pod.Containers[0].Args, slices.Sorted(maps.Keys(o.configs["mqttlb"].Data)))
	}
}

// mqttlb has no right that it does not need.
func checkRights(t *testing.T, o objects) {
	t.Helper()
	pod := o.deployments["mqttlb"].Spec.Template.Spec
	c := pod.Containers[0]
	yes, no := true, false
	user := int64(65532) // as in the Dockerfile
	want := corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	if !reflect.DeepEqual(*c.SecurityContext, want) {
		t.Errorf("got security context of the container %v", c.SecurityContext)
	}
	wantPod := corev1.PodSecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if !reflect.DeepEqual(*pod.SecurityContext, wantPod) {
		t.Errorf("got security context of the pod %v", pod.SecurityContext)
	}
	account := o.accounts[pod.ServiceAccountName]
	if account == nil || *account.AutomountServiceAccountToken || *pod.AutomountServiceAccountToken {
		t.Errorf("the pod gets a token: account %v", account)
	}
	if limit, ok := c.Resources.Limits[corev1.ResourceMemory]; !ok || limit.Cmp(c.Resources.Requests[corev1.ResourceMemory]) != 0 {
		t.Errorf("got limit of memory %v, want it, and as much requested", c.Resources.Limits)
	}
	if _, ok := c.Resources.Limits[corev1.ResourceCPU]; ok {
		t.Error("a limit of CPU holds up all clients at once")
	}
}

// The overlays differ from the base only in what they are about: nobody has to look for what else they changed.
func TestOverlaysKeepTheBase(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../kubernetes/base/mqttlb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders(t)[1:] {
		other, err := os.ReadFile(filepath.Join("../kubernetes", folder, "mqttlb.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		_, want, _ := strings.Cut(string(text), "\nclusters:")
		if _, got, _ := strings.Cut(string(other), "\nclusters:"); got != want {
			t.Errorf("%s: got clusters\n%s\nwant those of the base\n%s", folder, got, want)
		}
	}
}
