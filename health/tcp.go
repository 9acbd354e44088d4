package health

import "context"

// TCP is a probe that passes when a connection can be opened: with TLS, when the handshake succeeds. It
// sees neither a broker that hangs nor one that refuses everybody, and some brokers log every
// connection that ends without a CONNECT (hivemq.md, 5.3). Use it where nothing better works.
type TCP struct{ Dialing }

// Probe implements Prober.
func (p *TCP) Probe(ctx context.Context, t Target) Result {
	conn, err := p.open(ctx, t.Backend.Address, nameOf(&t.Backend), nil)
	if err != nil {
		return Result{Err: err}
	}
	_ = conn.Close()
	return Result{}
}
