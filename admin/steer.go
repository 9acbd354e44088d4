package admin

import (
	"context"
	"net/http"
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
