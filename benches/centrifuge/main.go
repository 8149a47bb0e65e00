// Centrifugo's engine and Rookery, the same work for both, one after the other: what a delivery costs, and how long
// it takes. One load generator speaks both protocols, with the same events, subscribers and schedule.
//
//	go run . -rookery ../../target/release/rookery
//
// docs/benchmarks.md says what comes out, and what it means. Needs redis-server.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	run := compare
	arguments := os.Args[1:]
	if len(arguments) > 0 && arguments[0] == "node" {
		run, arguments = node, arguments[1:]
	}
	if err := run(arguments); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// result is the figures of one run.
type result struct {
	p50, p99, cpu, redis float64
}

func compare(arguments []string) error {
	flags := flag.NewFlagSet("compare", flag.ExitOnError)
	rookery := flags.String("rookery", "../../target/release/rookery", "the program to compare with")
	runs := flags.Int("runs", 3, "how often to measure; medians are printed")
	seconds := flags.Float64("seconds", 20, "how long events are published")
	rate := flags.Float64("rate", 250, "events a second")
	subscribers := flags.Int("subscribers", 2_000, "connections that wait for events")
	follows := flags.Int("follows", 50, "authors of 5,000 that each subscriber follows")
	sizes := flags.String("nodes", "1,2,4", "numbers of nodes; one has no Redis")
	_ = flags.Parse(arguments) // It exits by itself.

	events, authors, err := invent(*rookery)
	if err != nil {
		return fmt.Errorf("no events: %w", err)
	}
	work := newLoad(events[:int(*rate**seconds)], authors, *rate, *subscribers, *follows)
	systems := []struct {
		name   string
		speaks protocol
		add    func(*cluster, string) error
	}{{"rookery", nostr{}, addRookery(*rookery)}, {"centrifuge", engine{}, addEngine}}

	fmt.Println("nodes  server      p50 ms  p99 ms  CPU-s of 100,000 deliveries  CPU-s of Redis of 100,000 deliveries")
	row := func(nodes int, name string, of result) {
		redis := "–"
		if nodes > 1 {
			redis = fmt.Sprintf("%.2f", of.redis)
		}
		fmt.Printf("%5d  %-10s %7.1f %7.1f %28.2f %37s\n", nodes, name, of.p50, of.p99, of.cpu, redis)
	}
	results := map[string][]result{}
	var counts []int
	for size := range strings.SplitSeq(*sizes, ",") {
		count, err := strconv.Atoi(size)
		if err != nil {
			return err
		}
		counts = append(counts, count)
	}
	for range *runs {
		for _, count := range counts {
			for _, system := range systems {
				of, err := measure(work, count, system.speaks, system.add)
				if err != nil {
					return fmt.Errorf("%s, %d nodes: %w", system.name, count, err)
				}
				row(count, system.name, of)
				key := fmt.Sprint(count, system.name)
				results[key] = append(results[key], of)
			}
		}
	}
	fmt.Printf("\nmedians of %d runs; below them Rookery's over Centrifuge's, as the median of the runs' ratios\n", *runs)
	for _, count := range counts {
		ours, theirs := results[fmt.Sprint(count, "rookery")], results[fmt.Sprint(count, "centrifuge")]
		row(count, "rookery", median(ours))
		row(count, "centrifuge", median(theirs))
		var ratios []result
		for run := range ours {
			a, b := ours[run], theirs[run]
			ratios = append(ratios, result{a.p50 / b.p50, a.p99 / b.p99, a.cpu / b.cpu, a.redis / b.redis})
		}
		row(count, "ratio", median(ratios))
	}
	return nil
}

// measure gives a new cluster the load: published at one node, delivered by the others.
func measure(work *load, count int, speaks protocol, add func(*cluster, string) error) (result, error) {
	servers, err := newCluster(count, add)
	if err != nil {
		return result{}, err
	}
	defer servers.stop()
	others := servers.urls
	if count > 1 {
		others = servers.urls[1:]
	}
	var nodes, redis []time.Duration
	var failed error
	of, err := work.run(speaks, servers.urls[0], others, func() {
		used, usedByRedis, err := servers.cpu()
		nodes, redis = append(nodes, used), append(redis, usedByRedis)
		if err != nil {
			failed = err
		}
	})
	if err != nil {
		return result{}, err
	}
	each := func(used []time.Duration) float64 {
		return 1e5 * (used[1] - used[0]).Seconds() / float64(of.deliveries)
	}
	quantile := func(part float64) float64 {
		at := min(int(part*float64(len(of.latencies))), len(of.latencies)-1)
		return float64(of.latencies[at]) / float64(time.Millisecond)
	}
	return result{quantile(0.5), quantile(0.99), each(nodes), each(redis)}, failed
}

func median(of []result) result {
	middle := func(value func(result) float64) float64 {
		values := make([]float64, 0, len(of))
		for _, one := range of {
			values = append(values, value(one))
		}
		slices.Sort(values)
		return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
	}
	return result{
		middle(func(r result) float64 { return r.p50 }), middle(func(r result) float64 { return r.p99 }),
		middle(func(r result) float64 { return r.cpu }), middle(func(r result) float64 { return r.redis }),
	}
}

// invent has Rookery's own benchmark publish its events, so that these are the same, signed and all.
func invent(rookery string) ([]event, []string, error) {
	const count = 30_000 // So many that nearly all of 5,000 authors have written something.
	relay, err := newCluster(1, addRookery(rookery))
	if err != nil {
		return nil, nil, err
	}
	defer relay.stop()
	ingest := exec.Command(rookery, "bench", "ingest", relay.urls[0], "--even", "--events", strconv.Itoa(count),
		"--connections", "8", "--in-flight", "64")
	if output, err := ingest.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", err, output)
	}
	relay.nodes[0].stop()
	export := exec.Command(rookery, "export", "--data", filepath.Join(relay.data, "0"))
	lines, err := export.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := export.Start(); err != nil {
		return nil, nil, err
	}
	var events []event
	var authors []string
	seen := map[string]bool{}
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		var fields struct{ ID, Pubkey string }
		if err := json.Unmarshal(scanner.Bytes(), &fields); err != nil {
			return nil, nil, err
		}
		events = append(events, event{fields.ID, fields.Pubkey, scanner.Text()})
		if !seen[fields.Pubkey] {
			seen[fields.Pubkey] = true
			authors = append(authors, fields.Pubkey)
		}
	}
	return events, authors, export.Wait()
}
