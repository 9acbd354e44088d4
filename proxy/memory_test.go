package proxy

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"
)

func TestRefuseForWantOfMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	r.proxy.Refuse(true)
	stranger := r.dial()
	_, _ = stranger.Write(connect("stranger"))
	if _, err := io.ReadAll(stranger); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	select {
	case why := <-r.told.shed:
		if why != RefusedMemory {
			t.Errorf("refused for %q, want %q", why, RefusedMemory)
		}
	case <-time.After(patience):
		t.Fatal("nobody was refused")
	}
	write(t, client, []byte{0xc0, 0})
	expect(t, broker, []byte{0xc0, 0})
	r.proxy.Refuse(false)
	r.session()
}

func TestShedPending(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	const pending = 7
	for range pending {
		write(t, r.dial(), connect("half")[:9])
	}
	eventually(t, func() bool { return r.proxy.Stats().Sessions == pending+1 })
	eventually(t, func() bool { // the kernel holds back who has not sent anything; these have
		var lent int64
		r.proxy.everywhere(func(l *loop) { lent += l.pool.lent })
		return lent >= pending<<10
	})
	if n := r.proxy.ShedPending(); n != pending {
		t.Errorf("%d were shed, want %d", n, pending)
	}
	for range pending {
		if rec := r.record(); rec.Refusal != RefusedMemory || rec.End != EndLimit {
			t.Errorf("got %q and %v, want %q and %v", rec.Refusal, rec.End, RefusedMemory, EndLimit)
		}
	}
	write(t, client, []byte{0xc0, 0})
	expect(t, broker, []byte{0xc0, 0})
}
