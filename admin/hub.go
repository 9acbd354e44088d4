package admin

import (
	"strings"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
)

const (
	// keptEvents is how many events are remembered, for listeners that are slow or come back.
	keptEvents = 1024
	// maxEventID bounds a client id in an event, in bytes, as in the access log: it may have 64 KiB.
	maxEventID = 128
)

// A Hub passes events on to those who listen at /api/v1/events. It remembers the latest of them once, for all
// listeners together: one that is slow costs nobody anything, and loses what has been forgotten meanwhile.
type Hub struct {
	mu    sync.Mutex
	kept  []cluster.Event // a ring: the event with the number n is at n % keptEvents
	begin uint64          // the number of the first event there was
	next  uint64          // the number of the next event
	news  chan struct{}   // closed at the next event; nil while nobody waits
}

// NewHub returns a Hub without events. Their numbers begin with the time, so that those of a process that was started
// later are larger.
func NewHub() *Hub {
	begin := uint64(time.Now().UnixMilli()) / keptEvents * keptEvents // where the ring begins
	return &Hub{begin: begin, next: begin}
}

// Publish tells everybody who listens. It never blocks. A long client id is cut.
func (h *Hub) Publish(e cluster.Event) {
	if len(e.ClientID) > maxEventID {
		e.ClientID = strings.Clone(e.ClientID[:maxEventID]) // without holding on to the rest
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.kept) < keptEvents {
		h.kept = append(h.kept, e)
	} else {
		h.kept[h.next%keptEvents] = e
	}
	h.next++
	if h.news != nil {
		close(h.news)
		h.news = nil
	}
}

// position is the number of the next event.
func (h *Hub) position() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.next
}

// since copies the events from the number on into the buffer, as many as fit. first is the number of the first of
// them: it is larger if some are forgotten. If there are none, news is closed when there is one.
func (h *Hub) since(number uint64, buffer []cluster.Event) (n int, first uint64, news <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first = max(number, h.next-uint64(len(h.kept)))
	for ; n < len(buffer) && first+uint64(n) < h.next; n++ {
		buffer[n] = h.kept[(first+uint64(n))%keptEvents]
	}
	if n > 0 {
		return n, first, nil
	}
	if h.news == nil {
		h.news = make(chan struct{})
	}
	return 0, first, h.news
}

// resume is where a listener goes on that has heard everything up to a number, in this process or in an earlier one.
func (h *Hub) resume(heard uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if heard >= h.next {
		return h.next // nobody can have heard that; perhaps the clock was put back
	}
	return max(heard+1, h.begin)
}
