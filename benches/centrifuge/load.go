package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

// load is what is asked of servers: the same of all.
type load struct {
	events      []event
	rate        float64
	publishers  int
	subscribers [][]string // the authors that each follows
	due         map[string]int
}

// figures is what a load came to.
type figures struct {
	deliveries int
	latencies  []time.Duration // ascending
}

const patience = 20 * time.Second

// newLoad draws whom each subscriber follows.
func newLoad(events []event, authors []string, rate float64, subscribers, follows int) *load {
	dice := rand.New(rand.NewPCG(1, 2))
	made := &load{events: events, rate: rate, publishers: 64, due: map[string]int{}}
	for range subscribers {
		followed := make([]string, follows)
		for at, author := range dice.Perm(len(authors))[:follows] {
			followed[at] = authors[author]
			made.due[authors[author]]++
		}
		made.subscribers = append(made.subscribers, followed)
	}
	return made
}

// run publishes at one server what subscribers of the others wait for. Every delivery that is due must come, once,
// and nothing else. `measured` is called when all are subscribed, and when everything has come.
func (l *load) run(speaks protocol, publishAt string, subscribeAt []string, measured func()) (figures, error) {
	run := &running{load: l, speaks: speaks, numbers: make(map[string]int, len(l.events))}
	defer run.close()
	want := 0
	for number, event := range l.events {
		run.numbers[event.id] = number
		want += l.due[event.author]
	}
	run.sent = make([]atomic.Int64, len(l.events))
	run.latencies = make([][]time.Duration, len(l.subscribers))
	for number, authors := range l.subscribers {
		if err := run.subscribe(number, subscribeAt[number%len(subscribeAt)], authors); err != nil {
			return figures{}, err
		}
	}
	var publishers []*client
	for range l.publishers {
		publisher, err := run.open(publishAt, nil, func(string, time.Time) { run.fail(errors.New("nobody asked")) })
		if err != nil {
			return figures{}, err
		}
		publishers = append(publishers, publisher)
	}
	measured()
	run.publish(publishers)
	for begun := time.Now(); int(run.delivered.Load()) < want || int(run.accepted.Load()) < len(l.events); {
		if err := run.failure.Load(); err != nil {
			return figures{}, *err
		}
		if time.Since(begun) > patience {
			return figures{}, fmt.Errorf("%d of %d deliveries, %d of %d events accepted", run.delivered.Load(),
				want, run.accepted.Load(), len(l.events))
		}
		time.Sleep(time.Millisecond)
	}
	measured()
	time.Sleep(300 * time.Millisecond) // For what comes twice.
	run.close()
	if err := run.failure.Load(); err != nil {
		return figures{}, *err
	}
	all := slices.Concat(run.latencies...)
	slices.Sort(all)
	return figures{deliveries: want, latencies: all}, nil
}

// running is a load under way.
type running struct {
	*load
	speaks              protocol
	numbers             map[string]int // of events, by id
	sent                []atomic.Int64 // when each was due, as Unix nanoseconds; 0: not yet
	latencies           [][]time.Duration
	delivered, accepted atomic.Int64
	failure             atomic.Pointer[error]
	clients             []*client
	readers             sync.WaitGroup
	closing             atomic.Bool
}

// client is a connection.
type client struct {
	socket  *websocket.Conn
	writing sync.Mutex
}

func (c *client) say(text string) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.socket.WriteMessage(websocket.TextMessage, []byte(text))
}

func (r *running) fail(err error) {
	if !r.closing.Load() {
		r.failure.CompareAndSwap(nil, &err)
	}
}

func (r *running) close() {
	r.closing.Store(true)
	for _, client := range r.clients {
		_ = client.socket.Close() // It may be closed already.
	}
	r.readers.Wait()
}

func (r *running) subscribe(number int, url string, authors []string) error {
	follows := make(map[string]bool, len(authors))
	for _, author := range authors {
		follows[author] = true
	}
	seen := map[int]bool{}
	_, err := r.open(url, authors, func(id string, now time.Time) {
		event, known := r.numbers[id]
		switch {
		case !known || !follows[r.events[event].author]:
			r.fail(errors.New("an event that is not due"))
		case seen[event]:
			r.fail(errors.New("an event came twice"))
		default:
			seen[event] = true
			r.latencies[number] = append(r.latencies[number], time.Duration(now.UnixNano()-r.sent[event].Load()))
			r.delivered.Add(1)
		}
	})
	return err
}

// open connects, and returns when what is asked for stands.
func (r *running) open(url string, authors []string, take func(id string, now time.Time)) (*client, error) {
	socket, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		return nil, err
	}
	opened := &client{socket: socket}
	r.clients = append(r.clients, opened)
	stands := make(chan struct{})
	left := r.speaks.answers(authors)
	if left == 0 {
		close(stands)
	}
	r.readers.Go(func() {
		for {
			_, messages, err := socket.ReadMessage()
			if err != nil {
				r.fail(err)
				return
			}
			now := time.Now()
			for message := range bytes.SplitSeq(messages, []byte("\n")) {
				switch what, id := r.speaks.read(message); what {
				case delivered:
					take(id, now)
				case accepted:
					r.accepted.Add(1)
				case ready:
					if left--; left == 0 {
						close(stands)
					}
				case ping:
					if err := opened.say(r.speaks.pong()); err != nil {
						r.fail(err)
					}
				case failure:
					r.fail(fmt.Errorf("the server says %s", message))
				}
			}
		}
	})
	if hello := r.speaks.hello(authors); hello != "" {
		if err := opened.say(hello); err != nil {
			return nil, err
		}
	}
	select {
	case <-stands:
		return opened, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("no answer within %v", patience)
	}
}

// publish sends each event when it is due, whatever the server does. Latency counts from then.
func (r *running) publish(publishers []*client) {
	// A timer of Go's may be a millisecond late, a thread of one's own is not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	for number, event := range r.events {
		due := start.Add(time.Duration(float64(number) / r.rate * float64(time.Second)))
		for left := time.Until(due); left > 0; left = time.Until(due) {
			pause := syscall.NsecToTimespec(left.Nanoseconds())
			_ = syscall.Nanosleep(&pause, nil) // Woken early, it sleeps on.
		}
		r.sent[number].Store(due.UnixNano())
		if err := publishers[number%len(publishers)].say(r.speaks.publish(number, event)); err != nil {
			r.fail(err)
		}
	}
}
