package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

// reload reads the configuration again. One that has begun is finished, even if nobody waits for it
// any more.
func (s *Server) reload(r *http.Request) (any, error) {
	if err := decode(r, &struct{}{}); err != nil {
		return nil, err
	}
	if err := s.options.Reload(context.WithoutCancel(r.Context())); err != nil {
		return nil, failf(http.StatusInternalServerError, "not reloaded: %w", err)
	}
	return Reloaded{true}, nil
}

// drain begins to move the clients of a backend away.
func (s *Server) drain(r *http.Request) (any, error) {
	var body DrainRequest
	c, err := s.addressed(r, &body)
	if err != nil {
		return nil, err
	}
	rate := 0.
	if body.Rate != "" {
		if rate, err = ParseRate(body.Rate); err != nil {
			return nil, failf(http.StatusBadRequest, "%w", err)
		}
	}
	return changed(c, r.PathValue("backend"), c.Drain(r.PathValue("backend"), rate))
}

// resume takes a drain back.
func (s *Server) resume(r *http.Request) (any, error) {
	c, err := s.addressed(r, &struct{}{})
	if err != nil {
		return nil, err
	}
	return changed(c, r.PathValue("backend"), c.Resume(r.PathValue("backend")))
}

// rebalance plans, and unless it is a dry run has it carried out.
func (s *Server) rebalance(r *http.Request) (any, error) {
	var body RebalanceRequest
	c, err := s.addressed(r, &body)
	if err != nil {
		return nil, err
	}
	limit := defaultLimit
	if body.Limit != nil {
		if limit = *body.Limit; limit < 1 || limit > MaxMoves {
			return nil, failf(http.StatusBadRequest, "limit must be a number from 1 to %d, got %d", MaxMoves, limit)
		}
	}
	plan, err := s.plan(c, body.DryRun, limit)
	if errors.Is(err, cluster.ErrNobodyMoves) {
		return nil, failf(http.StatusServiceUnavailable, "%w", err)
	}
	if err != nil {
		return nil, failf(http.StatusConflict, "%w", err)
	}
	return plan, nil
}

// plan asks the cluster for its plan, and makes the wire format of it. A plan takes a look at every client, so only
// one is made at a time, whoever asks.
func (s *Server) plan(c Cluster, dryRun bool, limit int) (Plan, error) {
	s.planning.Lock()
	defer s.planning.Unlock()
	p, err := c.Rebalance(dryRun, limit)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Plan: p, Moves: make([]Move, 0, len(p.Moves))}
	plan.Plan.Moves = nil
	bytes := 0
	for _, m := range p.Moves {
		if bytes += len(m.ClientID); bytes > maxIDs {
			break
		}
		plan.Moves = append(plan.Moves, Move{PlannedMove: m, ClientIDHex: hexOf(m.ClientID), GroupHex: hexOf(m.Group)})
	}
	return plan, nil
}

// force makes a cluster have a state.
func (s *Server) force(r *http.Request) (any, error) {
	var body StateRequest
	c, err := s.addressed(r, &body)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(States(), body.State) {
		return nil, failf(http.StatusBadRequest, "state must be one of %s, got %q", strings.Join(States(), ", "), body.State)
	}
	if err := c.Force(body.State); err != nil {
		return nil, failf(http.StatusConflict, "%w", err)
	}
	return state(c), nil
}

// States are what a cluster can be told to be; the first is auto.
func States() []string {
	states := []string{"auto"}
	for s := balancer.Balanced; s <= balancer.Degraded; s++ {
		states = append(states, s.String())
	}
	return states
}

// addressed reads the body of a request and finds the cluster that it is about.
func (s *Server) addressed(r *http.Request, body any) (Cluster, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	if err := decode(r, body); err != nil {
		return nil, err
	}
	c, err := s.find(r.PathValue("cluster"))
	if err == nil && s.stage.Load() == starting {
		return nil, failf(http.StatusServiceUnavailable, "mqttlb is starting") // there is nobody who moves clients
	}
	return c, err
}

// changed is the answer after something was done with a backend, or could not be.
func changed(c Cluster, name string, err error) (any, error) {
	list := c.Status().Backends
	switch {
	case errors.Is(err, cluster.ErrNoSuchBackend):
		return nil, failf(http.StatusNotFound, "unknown backend %q; %s has %s", name, c.Name(), namesOf(list))
	case err != nil:
		return nil, failf(http.StatusConflict, "%w", err)
	}
	answer := BackendChange{Cluster: c.Name(), Backend: cluster.BackendStatus{Name: name}} // if it is gone meanwhile
	if i := slices.IndexFunc(list, func(b cluster.BackendStatus) bool { return b.Name == name }); i >= 0 {
		answer.Backend = list[i]
	}
	return answer, nil
}

// maxNamed is how many names stand in a message.
const maxNamed = 50

func namesOf(list []cluster.BackendStatus) string {
	if len(list) == 0 {
		return "no backends"
	}
	var names []string
	for i := range list[:min(len(list), maxNamed)] {
		names = append(names, list[i].Name)
	}
	if len(list) > maxNamed {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}
