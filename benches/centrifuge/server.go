package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is one that was started here. Nothing outlives this program.
type process struct {
	command *exec.Cmd
	lines   *bufio.Scanner
}

// start runs a program, whose lines are those that it prints or, with `log`, those of its log.
func start(log bool, name string, arguments ...string) (*process, error) {
	command := exec.Command(name, arguments...)
	pipe, other := command.StdoutPipe, &command.Stderr
	if log {
		pipe, other = command.StderrPipe, &command.Stdout
	}
	output, err := pipe()
	if err != nil {
		return nil, err
	}
	*other = os.Stderr
	if err := command.Start(); err != nil {
		return nil, err
	}
	return &process{command, bufio.NewScanner(output)}, nil
}

func (p *process) stop() {
	_ = p.command.Process.Kill() // It may have ended.
	_ = p.command.Wait()
}

// show prints what else it writes, so that it can go on writing.
func (p *process) show() {
	for p.lines.Scan() {
		fmt.Fprintln(os.Stderr, p.lines.Text())
	}
}

// cpu is the user and system time of a process so far.
func (p *process) cpu() (time.Duration, error) {
	const perTick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs on Linux.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	return time.Duration(user+system) * perTick, errors.Join(errUser, errSystem)
}

// cluster is nodes of one kind, and the Redis between them.
type cluster struct {
	nodes []*process
	urls  []string
	redis *process
	data  string
}

func (c *cluster) stop() {
	for _, node := range c.nodes {
		node.stop()
	}
	if c.redis != nil {
		c.redis.stop()
	}
	_ = os.RemoveAll(c.data)
}

// cpu is what the nodes and Redis used so far.
func (c *cluster) cpu() (nodes, redis time.Duration, err error) {
	for _, node := range c.nodes {
		used, failed := node.cpu()
		nodes, err = nodes+used, errors.Join(err, failed)
	}
	if c.redis != nil {
		used, failed := c.redis.cpu()
		redis, err = used, errors.Join(err, failed)
	}
	return nodes, redis, err
}

// newCluster starts so many nodes. One alone has no Redis.
func newCluster(count int, start func(cluster *cluster, redis string) error) (*cluster, error) {
	data, err := os.MkdirTemp("", "rookery-centrifuge-")
	if err != nil {
		return nil, err
	}
	made := &cluster{data: data}
	redis := ""
	if count > 1 {
		if redis, err = made.startRedis(); err != nil {
			made.stop()
			return nil, err
		}
	}
	for range count {
		if err := start(made, redis); err != nil {
			made.stop()
			return nil, err
		}
	}
	return made, nil
}

func (c *cluster) startRedis() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := listener.Addr().String()
	port := address[strings.LastIndex(address, ":")+1:]
	if err := listener.Close(); err != nil {
		return "", err
	}
	c.redis, err = start(false, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "",
		"--appendonly", "no", "--dir", c.data)
	if err != nil {
		return "", err
	}
	for c.redis.lines.Scan() {
		if strings.Contains(c.redis.lines.Text(), "Ready to accept connections") {
			return address, nil
		}
	}
	return "", errors.New("redis-server ended")
}

// addEngine starts a node of Centrifugo's engine.
func addEngine(cluster *cluster, redis string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	node, err := start(false, self, "node", "-redis", redis)
	if err != nil {
		return err
	}
	cluster.nodes = append(cluster.nodes, node)
	if !node.lines.Scan() {
		return errors.New("a node ended")
	}
	cluster.urls = append(cluster.urls, "ws://"+node.lines.Text())
	return nil
}

// addRookery starts a node of Rookery, with a store of its own.
func addRookery(rookery string) func(cluster *cluster, redis string) error {
	return func(cluster *cluster, redis string) error {
		folder := filepath.Join(cluster.data, strconv.Itoa(len(cluster.nodes)))
		arguments := []string{"relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", folder}
		if redis != "" {
			// It starts when it is connected.
			arguments = append(arguments, "--redis", "redis://"+redis, "--set", "bus.start_seconds=10",
				"--set", "bus.acknowledge_ms=30000")
		}
		node, err := start(true, rookery, arguments...)
		if err != nil {
			return err
		}
		cluster.nodes = append(cluster.nodes, node)
		for node.lines.Scan() {
			var line struct{ Message, Address string }
			if err := json.Unmarshal(node.lines.Bytes(), &line); err != nil {
				return fmt.Errorf("%w: %s", err, node.lines.Text())
			}
			if line.Message == "listening" {
				cluster.urls = append(cluster.urls, "ws://"+line.Address)
				go node.show()
				return nil
			}
		}
		return errors.New("a node ended")
	}
}
