//go:build tools

// Package jaeger names the program that cluster/dev/jaeger-build.sh builds, so that go.mod holds its version.
package jaeger

import _ "github.com/jaegertracing/jaeger/cmd/jaeger"
