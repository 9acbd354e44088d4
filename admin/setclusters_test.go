package admin

import (
	"net/http"
	"testing"
)

// What is shown changes with SetClusters, also while somebody asks.
func TestSetClusters(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	r := start(t, o)
	r.SetReady()
	changing := make(chan struct{})
	go func() {
		defer close(changing)
		for i := range 1000 {
			r.SetClusters(o.Clusters[:1+i%2])
		}
	}()
	for range 10 {
		as[Status](t, get(t, r.tcp, "/api/v1/status"))
		as[ClientList](t, get(t, r.tcp, "/api/v1/clients?backend=n1"))
		get(t, r.tcp, "/readyz")
	}
	<-changing
	r.SetClusters(o.Clusters[1:])
	failed(t, get(t, r.tcp, "/api/v1/clusters/hivemq"), http.StatusNotFound, `unknown cluster "hivemq"; known are emqx`)
	failed(t, get(t, r.tcp, "/api/v1/clients?backend=n1"), http.StatusNotFound, `unknown backend "n1"; /api/v1/clusters lists them`)
	as[Explanation](t, get(t, r.tcp, "/api/v1/explain?client_id=x")) // the only cluster needs no name
	if s := as[Status](t, get(t, r.tcp, "/api/v1/status")); len(s.Clusters) != 1 || s.Clusters[0].Name != "emqx" {
		t.Errorf("got %+v, want emqx alone", s.Clusters)
	}
	r.SetClusters(nil)
	if list := as[ClusterList](t, get(t, r.tcp, "/api/v1/clusters")); list.Clusters == nil || len(list.Clusters) != 0 {
		t.Errorf("got %+v, want an empty list", list)
	}
}
