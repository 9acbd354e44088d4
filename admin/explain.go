package admin

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

func (s *Server) explain(r *http.Request) (any, error) {
	given, err := parameters(r, "cluster", "client_id", "persistent")
	if err != nil {
		return nil, err
	}
	id := given.Get("client_id")
	switch {
	case !given.Has("client_id"):
		return nil, failf(http.StatusBadRequest, "which client? the parameter client_id is missing; empty it means a client without id")
	case len(id) > maxClientID:
		return nil, failf(http.StatusBadRequest, "a client id has at most %d bytes, this one has %d", maxClientID, len(id))
	}
	persistent := false
	if text := given.Get("persistent"); text != "" {
		if persistent, err = strconv.ParseBool(text); err != nil {
			return nil, failf(http.StatusBadRequest, "persistent must be true or false, got %q", text)
		}
	}
	name := given.Get("cluster")
	if name == "" {
		name = s.clusterOf(id)
	}
	c, err := s.findOrOnly(name)
	if err != nil {
		return nil, err
	}
	e := Explanation{Explanation: c.Explain(id, persistent), ClientIDHex: hexOf(id)}
	e.GroupHex = hexOf(e.Group)
	if e.Otherwise == nil {
		e.Otherwise = []cluster.Choice{}
	}
	s.explainPresent(c, &e)
	return e, nil
}

// clusterOf is the only cluster in which a client of this id is connected, empty if there are several or none: client
// ids are those of a tenant, and the same id in another cluster is another client.
func (s *Server) clusterOf(id string) string {
	if id == "" || s.stage.Load() == starting {
		return ""
	}
	const enough = 100 // connections of one id, of which there should be one
	found := s.options.Proxy.Sessions(func(i *proxy.SessionInfo) bool { return i.ClientID == id && i.Target.Backend != nil }, enough)
	name := ""
	for i := range found {
		in := found[i].Target.Backend.Cluster
		if name != "" && in != name {
			return ""
		}
		name = in
	}
	return name
}

// explainPresent adds where the client and its group are.
func (s *Server) explainPresent(c Cluster, e *Explanation) {
	id, group := e.ID(), e.ExactGroup()
	if id != "" && s.stage.Load() != starting {
		found := s.options.Proxy.Sessions(func(i *proxy.SessionInfo) bool {
			return i.ClientID == id && i.Target.Backend != nil && i.Target.Backend.Cluster == c.Name()
		}, 1)
		if len(found) > 0 {
			client := describe(&found[0])
			e.Connected = &client
			e.Move = s.plannedFor(c, id)
			group = cmp.Or(found[0].Target.Reason.Group, group) // CONNECT has told more than the id
		}
	}
	if group == "" {
		return
	}
	if g, known := c.Group(group); known {
		e.Members = &Group{g, hexOf(g.Name)}
	}
}

// plannedFor is what a rebalance would do with one client, nil if nothing.
func (s *Server) plannedFor(c Cluster, id string) *Move {
	plan, err := s.plan(c, true, MaxMoves)
	if err != nil {
		return nil
	}
	if i := slices.IndexFunc(plan.Moves, func(m Move) bool { return m.ClientID == id }); i >= 0 {
		return &plan.Moves[i]
	}
	return nil
}
