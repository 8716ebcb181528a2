// How many connections there are, and how fast new ones come. At the limit somebody who has no right to so many gives way,
// so that neither strangers nor one user lock out all others. Who is alive does not: where devices of one user are more than
// fit, they would cut each other for ever.

import type { Clock } from '#sdk';
import type { Connection } from './connection.ts';
import { TokenBucket } from './rate-limit.ts';

/** Addresses whose connects are counted. */
const CONNECT_ADDRESSES = 1024;

/** Without a keep-alive a client silent for longer is taken for leaked; with one the broker sees to it by that. */
const SILENT_MS = 600_000;

export interface ConnectGateOptions {
  readonly clock: Clock;
  readonly maxConnections: number;
  /** From one address; 0: no limit. */
  readonly maxConnectsPerSec: number;
  readonly refuse: (reason: string, fields: Readonly<Record<string, unknown>>) => void;
}

export class ConnectGate {
  readonly #options: ConnectGateOptions;
  /** Those that stand, oldest first. */
  readonly #open = new Set<Connection>();
  readonly #connects = new Map<string, TokenBucket>();

  constructor(options: ConnectGateOptions) {
    this.#options = options;
  }

  /** Whether a new connection is taken at all, before anything is read of it. */
  admit(address: string): boolean {
    const { clock, maxConnections, maxConnectsPerSec, refuse } = this.#options;
    if (this.#open.size >= maxConnections && this.#dispensable() === undefined) {
      refuse('too_many_connections', { address });
      return false;
    }
    let bucket = this.#connects.get(address);
    if (bucket === undefined) {
      if (this.#connects.size >= CONNECT_ADDRESSES) this.#connects.clear();
      bucket = new TokenBucket(clock, maxConnectsPerSec);
      this.#connects.set(address, bucket);
    }
    if (bucket.spend(1)) return true;
    refuse('connect_rate', { address });
    return false;
  }

  /** Counts a connection, in the place of another one at the limit; false when there is no place. */
  enter(connection: Connection): boolean {
    const { maxConnections, refuse } = this.#options;
    if (this.#open.size >= maxConnections) {
      const dropped = this.#dispensable();
      if (dropped === undefined) {
        refuse('too_many_connections', { address: connection.remoteAddress });
        return false;
      }
      refuse('connection_dropped', { address: dropped.remoteAddress, username: dropped.principal?.username });
      this.#open.delete(dropped);
      dropped.destroy();
    }
    this.#open.add(connection);
    return true;
  }

  leave(connection: Connection): void {
    this.#open.delete(connection);
  }

  /** The oldest that has not logged in; else the longest silent of whoever has more than half of all, if it looks leaked. */
  #dispensable(): Connection | undefined {
    const counts = new Map<string, number>();
    for (const connection of this.#open) {
      if (connection.principal === undefined) return connection;
      const holder = holderOf(connection);
      counts.set(holder, (counts.get(holder) ?? 0) + 1);
    }
    const greedy = [...counts].find(([, count]) => count > this.#options.maxConnections / 2)?.[0];
    let silent: Connection | undefined;
    let heardAtMs = this.#options.clock.monotonicMs() - SILENT_MS;
    for (const connection of this.#open) {
      const { keepAliveSecs } = connection;
      if (keepAliveSecs > 0 || connection.heardAtMs >= heardAtMs || holderOf(connection) !== greedy) continue;
      silent = connection;
      ({ heardAtMs } = connection);
    }
    return silent;
  }
}

/** Those without a name are told apart by their address. */
function holderOf({ principal, remoteAddress }: Connection): string {
  return principal?.username === undefined ? `address ${remoteAddress}` : `user ${principal.username}`;
}
