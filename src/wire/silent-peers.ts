// Ends peers that say nothing: Node waits for ever for the first byte, of the handshake and of the first request, on a socket
// that was accepted by another server.

import type { Socket } from 'node:net';
import type { Clock } from '../core/clock.ts';

export interface SilentPeers {
  /** The next word of this peer is due in time; else its socket is destroyed, after `onSilent`. */
  expectWord(socket: Socket, onSilent: () => void): void;
  /** It said something. The socket, or TLS on it. */
  heardFrom(socket: Socket): void;
}

/** @param patienceMs for each word. */
export function createSilentPeers(clock: Clock, patienceMs: number): SilentPeers {
  /** What cancels the wait; at most one for each socket. */
  const waits = new Map<string, () => void>();
  return {
    expectWord(socket, onSilent) {
      const key = peerKey(socket);
      const cancel = clock.after(patienceMs, () => {
        waits.delete(key);
        onSilent();
        socket.destroy();
      });
      waits.set(key, cancel);
      socket.once('close', () => {
        if (waits.get(key) === cancel) waits.delete(key);
        cancel();
      });
    },
    heardFrom(socket) {
      const key = peerKey(socket);
      waits.get(key)?.();
      waits.delete(key);
    },
  };
}

/** The same for a socket and for TLS on it. */
function peerKey({ remoteAddress, remotePort, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localPort}`;
}
