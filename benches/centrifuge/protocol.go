package main

import (
	"bytes"
	"fmt"
	"strings"
)

// event is one of Rookery's benchmark: signed, as it travels.
type event struct {
	id, author, text string
}

// heard is what a message from a server says.
type heard int

const (
	nothing   heard = iota
	ready           // what was asked for stands
	accepted        // an event was published
	delivered       // an event
	ping            // to be answered
	failure
)

// protocol is how clients and servers talk.
type protocol interface {
	// hello opens a connection, and subscribes to authors, where there are any.
	hello(authors []string) string
	// answers is how many messages are "ready" until a connection stands.
	answers(authors []string) int
	publish(number int, event event) string
	// read takes one message, and returns the id of the event that it delivers.
	read(message []byte) (heard, string)
	pong() string
}

// nostr is NIP-01.
type nostr struct{}

func (nostr) hello(authors []string) string {
	if len(authors) == 0 {
		return ""
	}
	return fmt.Sprintf(`["REQ","s",{"authors":["%s"],"limit":0}]`, strings.Join(authors, `","`))
}

func (nostr) answers(authors []string) int {
	return min(1, len(authors))
}

func (nostr) publish(_ int, event event) string {
	return `["EVENT",` + event.text + `]`
}

func (nostr) read(message []byte) (heard, string) {
	switch {
	case bytes.HasPrefix(message, []byte(`["EVENT"`)):
		return delivered, idOf(message)
	case bytes.HasPrefix(message, []byte(`["OK"`)):
		if bytes.Contains(message, []byte(`",true,`)) {
			return accepted, ""
		}
		return failure, ""
	case bytes.HasPrefix(message, []byte(`["EOSE"`)):
		return ready, ""
	case bytes.HasPrefix(message, []byte(`["AUTH"`)):
		return nothing, ""
	}
	return failure, ""
}

func (nostr) pong() string { return "" }

// engine is Centrifugo's protocol in JSON: a channel is an author, and lines are messages.
type engine struct{}

func (engine) hello(authors []string) string {
	commands := []string{`{"id":1,"connect":{}}`}
	for number, author := range authors {
		commands = append(commands, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"%s"}}`, number+2, author))
	}
	return strings.Join(commands, "\n")
}

func (engine) answers(authors []string) int {
	return 1 + len(authors)
}

func (engine) publish(number int, event event) string {
	return fmt.Sprintf(`{"id":%d,"publish":{"channel":"%s","data":%s}}`, number+2, event.author, event.text)
}

func (engine) read(message []byte) (heard, string) {
	switch {
	case bytes.HasPrefix(message, []byte(`{"push":{"channel"`)):
		return delivered, idOf(message)
	case bytes.Equal(message, []byte(`{}`)):
		return ping, ""
	case bytes.Contains(message, []byte(`,"connect":{`)), bytes.Contains(message, []byte(`,"subscribe":{`)):
		return ready, ""
	case bytes.Contains(message, []byte(`,"publish":{`)):
		return accepted, ""
	}
	return failure, ""
}

func (engine) pong() string { return "{}" }

// idOf finds the id of the event in a message, which is the first of its fields.
func idOf(message []byte) string {
	const key = `{"id":"`
	if at := bytes.Index(message, []byte(key)); at >= 0 && len(message) >= at+len(key)+64 {
		return string(message[at+len(key) : at+len(key)+64])
	}
	return ""
}
