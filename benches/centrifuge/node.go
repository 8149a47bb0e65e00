package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"

	"github.com/centrifugal/centrifuge"
)

// node serves WebSocket clients with Centrifugo's engine until the process is killed. It prints its address.
func node(arguments []string) error {
	flags := flag.NewFlagSet("node", flag.ExitOnError)
	redis := flags.String("redis", "", "Redis that the nodes share, as host:port; none: alone")
	_ = flags.Parse(arguments) // It exits by itself.

	engine, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelError, LogHandler: log})
	if err != nil {
		return err
	}
	if *redis != "" {
		shard, err := centrifuge.NewRedisShard(engine, centrifuge.RedisShardConfig{Address: *redis})
		if err != nil {
			return err
		}
		broker, err := centrifuge.NewRedisBroker(engine, centrifuge.RedisBrokerConfig{
			Shards: []*centrifuge.RedisShard{shard},
		})
		if err != nil {
			return err
		}
		engine.SetBroker(broker)
	}
	engine.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	// Everybody may publish and subscribe, as at an open relay.
	engine.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, answer centrifuge.PublishCallback) {
			answer(centrifuge.PublishReply{}, nil)
		})
	})
	if err := engine.Run(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	err = http.Serve(listener, centrifuge.NewWebsocketHandler(engine, centrifuge.WebsocketConfig{}))
	return errors.Join(errors.New("the node ended"), err)
}

func log(entry centrifuge.LogEntry) {
	println(entry.Message, fmt.Sprint(entry.Fields))
}
