// Live values for one client, over a connection that the test opens and closes like a slow peer's.

import { createServer, type ServerResponse } from 'node:http';
import { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DeviceQuery } from '../../../../src/core/admin.ts';
import { serveLive } from '../../../../modules/web/server/live.ts';
import { createAdminHarness, type AdminHarness } from '../../../support/admin.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait.ts';

/** Takes one write at a time, and none while it is closed. */
class SlowPeer extends Duplex {
  readonly received: string[] = [];
  #held: (() => void) | undefined;
  #open = true;

  constructor() {
    super({ writableHighWaterMark: 1024 });
  }

  set open(open: boolean) {
    this.#open = open;
    if (!open) return;
    const held = this.#held;
    this.#held = undefined;
    held?.();
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.received.push(chunk.toString());
    if (this.#open) done();
    else this.#held = done;
  }

  override _read(): void {}
}

let harness: AdminHarness;
let clock: ManualClock;
let peer: SlowPeer;
let response: ServerResponse;

/** Serves the peer as a server does; resolves when the first events were sent. */
async function serve(query: DeviceQuery = {}): Promise<void> {
  const server = createServer((_request, answer) => {
    response = answer;
    serveLive(answer, { admin: harness.admin, clock, query });
  });
  // A server takes any duplex stream for a connection (node:http, event `connection`).
  server.emit('connection', peer);
  peer.push('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await waitFor(() => events('devices') === 1);
}

beforeEach(() => {
  harness = createAdminHarness();
  clock = new ManualClock();
  peer = new SlowPeer();
});

afterEach(async () => {
  peer.destroy();
  await harness[Symbol.asyncDispose]();
});

const events = (name: string): number => peer.received.join('').split(`event: ${name}\n`).length - 1;
const values = (): string[] =>
  [...peer.received.join('').matchAll(/"voltage","value":(\d+)/g)].map((match) => match[1] ?? '');

describe('live values', () => {
  it('gathers changes and sends the newest', async () => {
    harness.read(1);
    await serve();
    for (let volts = 2; volts <= 50; volts += 1) harness.read(volts);
    clock.advance(500);
    await waitFor(() => values().length === 2);
    expect(values()).toEqual(['1', '50']);
    clock.advance(499);
    expect(events('devices')).toBe(2);
  });

  it('keeps nothing for a client that does not read, then sends the newest', async () => {
    harness.read(1);
    await serve();
    peer.open = false;
    for (let volts = 2; volts <= 41; volts += 1) {
      harness.read(volts);
      clock.advance(500);
    }
    // One write beyond what the connection takes, not forty.
    expect(response.writableLength + peer.writableLength).toBeLessThan(20_000);
    peer.open = true;
    await waitFor(() => peer.writableLength === 0);
    clock.advance(500);
    await waitFor(() => values().at(-1) === '41');
    expect(values().length).toBeLessThan(8);
  });

  it('lets a client go that reads nothing for long, and gives its place back', async () => {
    await serve();
    peer.open = false;
    for (let n = 0; n < 10; n += 1) clock.advance(2000);
    expect(response.destroyed).toBe(false);
    for (let n = 0; n < 20; n += 1) clock.advance(2000);
    expect(response.destroyed).toBe(true);
    await waitFor(() => clock.waiting === 0);
  });

  it('watches no more than was asked for', async () => {
    await serve({ deviceId: 'pump-3' });
    harness.read(7);
    clock.advance(500);
    clock.advance(2000);
    await waitFor(() => events('status') === 2);
    expect(peer.received.join('')).not.toContain('meter-1');
  });
});
