// Judges a lock history with porcupine, as a second opinion beside `antiphon verify locks` (docs/verify.md has the format).
//
//	porcupine-locks HISTORY.jsonl
//
// One line for each lock on standard output; exit code 1 where a history is not linearizable, 2 where that is not known in time
// or the file cannot be read.
//
// A state is who holds, the largest token, the largest that each guarded store has seen, and the earliest time at which all steps
// so far can have happened. A lease ends by being over: a step that needs a grant to be gone moves that time to the end of its
// lease. A service may end a lease late, never early.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	never   = math.MaxInt64 / 4
	slack   = int64(2 * time.Millisecond) // the service reads whole milliseconds of another clock
	timeout = 60 * time.Second            // for one lock
)

type line struct {
	ID       json.Number `json:"id"`
	Client   string      `json:"client"`
	Owner    string      `json:"owner"`
	Op       string      `json:"op"`
	Resource string      `json:"resource"`
	Grant    string      `json:"grant"`
	Mode     string      `json:"mode"`
	LeaseMs  int64       `json:"lease_ms"`
	Token    int64       `json:"token"`
	CallNs   int64       `json:"call_ns"`
	ReturnNs int64       `json:"return_ns"`
	Outcome  string      `json:"outcome"`
	Reason   string      `json:"reason"`
	Store    string      `json:"store"`

	tokens []int64 // of an acquire: the one it was answered, or each that it may have had
}

type holder struct {
	grant, owner string
	exclusive    bool
	token, ends  int64
}

type state struct {
	now, token int64
	holders    string // written by `pack`: states are compared
	released   string // grants and their owners, since a release may be repeated
	beyond     bool   // whether a token that no one was told is larger than the largest
	seen       string // by stores, written by `remember`
}

// remembered returns the largest token that a store has seen, and what the others have.
func remembered(seen, store string) (int64, []string) {
	var token int64
	var rest []string
	for _, one := range strings.Split(seen, "\n") {
		var name string
		var number int64
		if _, err := fmt.Sscanf(one, "%q %d", &name, &number); err != nil {
			continue
		}
		if name == store {
			token = number
		} else {
			rest = append(rest, one)
		}
	}
	return token, rest
}

func remember(seen, store string, token int64) string {
	_, rest := remembered(seen, store)
	rest = append(rest, fmt.Sprintf("%q %d", store, token))
	sort.Strings(rest)
	return strings.Join(rest, "\n")
}

func pack(holders []holder) string {
	sort.Slice(holders, func(i, j int) bool { return holders[i].grant < holders[j].grant })
	var text strings.Builder
	for _, h := range holders {
		fmt.Fprintf(&text, "%q %q %t %d %d\n", h.grant, h.owner, h.exclusive, h.token, h.ends)
	}
	return text.String()
}

func unpack(text string) []holder {
	var holders []holder
	for _, one := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if one == "" {
			continue
		}
		var h holder
		if _, err := fmt.Sscanf(one, "%q %q %t %d %d", &h.grant, &h.owner, &h.exclusive, &h.token, &h.ends); err != nil {
			panic(err)
		}
		holders = append(holders, h)
	}
	return holders
}

// without lets the leases of those that `gone` names be over; false where one of them lasts longer than the step may take.
func without(s state, at line, gone func(holder) bool) (state, bool) {
	var rest []holder
	for _, h := range unpack(s.holders) {
		if !gone(h) {
			rest = append(rest, h)
			continue
		}
		if h.ends-slack > s.now {
			s.now = h.ends - slack
		}
	}
	s.holders = pack(rest)
	return s, s.now <= at.ReturnNs
}

func acquire(s state, op line, token int64) []interface{} {
	exclusive := op.Mode != "shared"
	if token != 0 && token <= s.token {
		nested := false
		for _, h := range unpack(s.holders) {
			nested = nested || h.owner == op.Owner && h.token == token
		}
		if !nested {
			return nil
		}
	}
	s, possible := without(s, op, func(h holder) bool { return h.owner != op.Owner && (exclusive || h.exclusive) })
	if !possible {
		return nil
	}
	s.beyond = token == 0 || s.beyond && token <= s.token
	if token > s.token {
		s.token = token
	}
	return []interface{}{hold(s, op, token)}
}

func write(s state, op line) []interface{} {
	seen, _ := remembered(s.seen, op.Store)
	if op.Outcome != "refused" {
		if op.Token < seen {
			return nil
		}
		s.seen = remember(s.seen, op.Store, op.Token)
		return []interface{}{s}
	}
	if op.Token < s.token || op.Token == s.token && s.beyond {
		return []interface{}{s}
	}
	if gone, possible := without(s, op, func(h holder) bool { return h.token == op.Token }); possible {
		return []interface{}{gone}
	}
	return nil
}

func hold(s state, op line, token int64) state {
	held := holder{op.Grant, op.Owner, op.Mode != "shared", token, s.now + op.LeaseMs*int64(time.Millisecond)}
	s.holders = pack(append(unpack(s.holders), held))
	return s
}

func mark(op line) string {
	return fmt.Sprintf("%q %q\n", op.Grant, op.Owner)
}

func step(before, input, _ interface{}) []interface{} {
	s, op := before.(state), input.(line)
	if op.CallNs > s.now {
		s.now = op.CallNs
	}
	if s.now > op.ReturnNs {
		return nil
	}
	unknown := op.Outcome == "unknown"
	var after []interface{}
	if unknown {
		after = append(after, before) // it has not happened
	}
	holders := unpack(s.holders)
	index := -1
	for i, h := range holders {
		if h.grant == op.Grant && h.owner == op.Owner {
			index = i
		}
	}
	switch {
	case op.Op == "acquire" && op.Outcome == "refused": // since it was held
		if len(holders) > 0 {
			return []interface{}{s}
		}
	case op.Op == "acquire":
		for _, token := range op.tokens {
			after = append(after, acquire(s, op, token)...)
		}
	case op.Op == "write":
		return append(after, write(s, op)...)
	case op.Op == "expire" || op.Outcome == "refused": // the grant is gone
		if index < 0 {
			return []interface{}{s}
		}
		if gone, possible := without(s, op, func(h holder) bool { return h.grant == op.Grant }); possible {
			return []interface{}{gone}
		}
	case op.Op == "release" && index < 0:
		if strings.Contains(s.released, mark(op)) {
			return append(after, s)
		}
	case index < 0:
	case op.Op == "release":
		s.released += mark(op)
		s.holders = pack(append(holders[:index], holders[index+1:]...))
		return append(after, s)
	case op.Op == "renew":
		holders[index].ends = s.now + op.LeaseMs*int64(time.Millisecond)
		s.holders = pack(holders)
		return append(after, s)
	}
	return after
}

func read(path string) (map[string][]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parts := map[string]*line{}
	var order []string
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for number := 1; scanner.Scan(); number++ {
		var found line
		if err := json.Unmarshal(scanner.Bytes(), &found); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		key := found.Client + "\x00" + found.ID.String()
		if known := parts[key]; known != nil { // what is not in this line stays
			if err := json.Unmarshal(scanner.Bytes(), known); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", path, number, err)
			}
			continue
		}
		parts[key] = &found
		order = append(order, key)
	}
	told := map[string][]int64{} // tokens, by lock and owner
	for _, key := range order {
		op := parts[key]
		if op.Owner == "" {
			op.Owner = op.Client
		}
		if op.Op == "acquire" && op.Outcome == "ok" {
			told[op.Resource+"\x00"+op.Owner] = append(told[op.Resource+"\x00"+op.Owner], op.Token)
		}
	}
	histories := map[string][]porcupine.Operation{}
	for number, key := range order {
		op := *parts[key]
		if op.Outcome == "" || op.Outcome == "unknown" || op.ReturnNs == 0 {
			op.Outcome, op.ReturnNs = "unknown", never
		}
		switch op.Op {
		case "acquire", "release", "renew", "expire", "write":
		default:
			return nil, fmt.Errorf("%s: operation %s of %s is %q: there is no such", path, op.ID, op.Client, op.Op)
		}
		if op.Op == "acquire" && (op.Outcome == "timed_out" || op.Outcome == "refused" && op.Reason != "held") {
			continue // it says nothing about who holds
		}
		op.tokens = []int64{op.Token}
		if op.Op == "acquire" && op.Outcome == "unknown" { // it may be nested, or another one in it
			op.tokens = append([]int64{0}, told[op.Resource+"\x00"+op.Owner]...)
		}
		histories[op.Resource] = append(histories[op.Resource], porcupine.Operation{
			ClientId: number, Input: op, Call: op.CallNs, Return: op.ReturnNs, // an unanswered one stays open: each is a client
		})
	}
	return histories, scanner.Err()
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: porcupine-locks HISTORY.jsonl")
		os.Exit(2)
	}
	histories, err := read(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	model := (&porcupine.NondeterministicModel{
		Init:  func() []interface{} { return []interface{}{state{}} },
		Step:  step,
		Equal: func(a, b interface{}) bool { return a.(state) == b.(state) },
	}).ToModel()
	var names []string
	for name := range histories {
		names = append(names, name)
	}
	sort.Strings(names)
	code := 0
	for _, name := range names {
		result := porcupine.CheckOperationsTimeout(model, histories[name], timeout)
		fmt.Printf("%s\t%d operations\t%s\n", name, len(histories[name]), result)
		if result == porcupine.Illegal {
			code = 1
		} else if result == porcupine.Unknown && code == 0 {
			code = 2
		}
	}
	os.Exit(code)
}
