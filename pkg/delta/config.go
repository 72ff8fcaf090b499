package delta

import "time"

// Config is what streams of one kind have in common. It is not changed once a
// stream uses it.
type Config struct {
	Types []Type
	// Phases order what is sent, each type appearing once for what is added or
	// changed and once for what is removed. Without phases the types are
	// independent: none waits for another, and one response both adds and removes.
	Phases []Phase
	// Identifier names the sender in every response; may be empty.
	Identifier string
	// Gate is how long a phase waits for acknowledgements before it goes on
	// without them. Removals never do.
	Gate time.Duration
	// MaxBytes is the size that a response does not exceed, unless it holds a
	// single resource or must be whole. 0: no limit.
	MaxBytes int
	// Window is how many responses of one type may be unanswered; 0 means 32.
	Window int
	// RetryMin and RetryMax bound how long after its refusal a resource is sent
	// again although it did not change; the time doubles with every refusal.
	// 0: never, as for Envoy, which would only refuse it again.
	RetryMin, RetryMax time.Duration
	// Names shares sets of subscribed names between streams; nil: not shared.
	Names *Pool
}

// Type is one type of resources.
type Type struct {
	URL string
	// Distrust disregards the versions that a peer states in its first request:
	// an Envoy that reconnects may state endpoints that its clusters never got.
	Distrust bool
	// WholeFirst puts the first response into one message, whatever its size,
	// for peers that take it as the complete list.
	WholeFirst bool
	// Required types must have been asked for before a revision counts as
	// delivered.
	Required bool
	// Rearm lists types, as indexes, whose resource of the same name is sent
	// again after one of this type: Envoy takes a changed cluster as a new one and
	// waits for its endpoints without asking (envoyproxy/envoy#13009).
	Rearm []int
	// Uses lists types, as indexes, that resources of this type refer to. While
	// the peer refuses one of this type it keeps the last good one, and nothing
	// that this may refer to is removed.
	Uses []int
}

// Phase is one step of an ordered delivery.
type Phase struct {
	Type   int // index into Config.Types
	Remove bool
	// Replace lets removals of the type go with what is added, in one message, of
	// which the peer does removals first. A listener can then take the address of
	// another, which Envoy refuses while it has both. It is for types that no
	// other refers to.
	Replace bool
	// Wait holds the phase back until everything of earlier phases is sent and
	// acknowledged. Answers to a name that does not exist never wait.
	Wait bool
	// Light phases hold others back only with what the peer newly needs; their
	// mere updates, of endpoints say, delay nobody.
	Light bool
}

const defaultWindow = 32

func (c *Config) window() int {
	if c.Window > 0 {
		return c.Window
	}
	return defaultWindow
}
