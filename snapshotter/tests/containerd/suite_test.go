// Package suite runs containerd's own snapshotter tests against the built snapshotter, over its socket.
// See scripts/containerd-suite.
package suite

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

const limit = 60 * time.Second

// start returns a snapshotter with an empty root below directory, as containerd creates it for a proxy plugin.
func start(ctx context.Context, directory string) (snapshots.Snapshotter, func() error, error) {
	socket, config := filepath.Join(directory, "s.sock"), filepath.Join(directory, "config.toml")
	text := fmt.Sprintf("socket = %q\nroot = %q\n", socket, filepath.Join(directory, "root"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, nil, err
	}
	plugin := exec.Command(os.Getenv("SNAPSHOTTER"), "--config", config)
	plugin.Stderr = os.Stderr
	if err := plugin.Start(); err != nil {
		return nil, nil, err
	}
	for end := time.Now().Add(limit); ; {
		connection, err := net.Dial("unix", socket)
		if err == nil {
			connection.Close()
			break
		}
		if time.Now().After(end) {
			plugin.Process.Kill()
			return nil, nil, fmt.Errorf("the snapshotter does not serve: %w", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	connection, err := grpc.Dial("unix://"+socket, grpc.WithInsecure())
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		connection.Close()
		if err := plugin.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return plugin.Wait()
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "proxy"), stop, nil
}

func TestSnapshotter(t *testing.T) {
	// With this name the tests skip what overlayfs cannot do, such as renaming a directory of a lower layer.
	testsuite.SnapshotterSuite(t, "overlayfs", start)
}
