// Judges a lock history with porcupine, as a second opinion beside `antiphon verify locks` (docs/verify.md has the format).
//
//	porcupine-locks HISTORY.jsonl
//
// One line for each lock on standard output; exit code 1 where a history is not linearizable, 2 where that is not known in time
// or the file cannot be read.
//
// A state is who holds, the largest token, and the earliest time at which all steps so far can have happened. A lease ends by being
// over: a step that needs a grant to be gone moves that time to the end of its lease. A service may end a lease late, never early.
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

func acquire(s state, op line) []interface{} {
	exclusive := op.Mode != "shared"
	for _, h := range unpack(s.holders) {
		if op.Token != 0 && h.owner == op.Owner && h.token == op.Token && (h.exclusive || !exclusive) {
			return []interface{}{hold(s, op, op.Token)} // once more
		}
	}
	if op.Token != 0 && op.Token <= s.token {
		return nil
	}
	s, possible := without(s, op, func(h holder) bool { return h.owner != op.Owner && (exclusive || h.exclusive) })
	if !possible {
		return nil
	}
	if op.Token > s.token {
		s.token = op.Token
	}
	return []interface{}{hold(s, op, op.Token)}
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
	case op.Op == "acquire":
		return append(after, acquire(s, op)...)
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
	clients, histories := map[string]int{}, map[string][]porcupine.Operation{}
	for number, key := range order {
		op := *parts[key]
		if op.Owner == "" {
			op.Owner = op.Client
		}
		if op.Outcome == "" || op.Outcome == "unknown" || op.ReturnNs == 0 {
			op.Outcome, op.ReturnNs = "unknown", never
		}
		if op.Op == "write" {
			continue // what a guarded store takes is not the lock's
		}
		if op.Op != "acquire" && op.Op != "release" && op.Op != "renew" && op.Op != "expire" {
			return nil, fmt.Errorf("%s: operation %s of %s is %q: there is no such", path, op.ID, op.Client, op.Op)
		}
		if op.Op == "acquire" && (op.Outcome == "refused" || op.Outcome == "timed_out") {
			continue // it says nothing about who holds
		}
		clients[key] = number // an unanswered operation stays open, so each is a client of its own
		histories[op.Resource] = append(histories[op.Resource], porcupine.Operation{
			ClientId: clients[key], Input: op, Call: op.CallNs, Output: nil, Return: op.ReturnNs,
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
