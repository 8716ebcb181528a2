// What a transport makes of a link that delays, swallows and cuts: nothing is lost, what comes twice is at most what was under way, and
// it comes back by itself.

import { describe, expect, it } from 'vitest';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { GatewayError } from '../../src/core/errors.ts';
import type { TcpProxy } from '../sim/tcp-proxy.ts';
import { hastyClock, startRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

export interface BadLinkRig extends AsyncDisposable {
  /** To the peer through the proxy, with TLS and a window of `BAD_LINK_WINDOW`; gives a silent peer up after 10 s at most. */
  readonly transport: UpstreamTransport;
  readonly proxy: TcpProxy;
  /** What the peer has, as texts. */
  readonly arrived: () => readonly string[];
}

export const BAD_LINK_WINDOW = 64;
const DELAY_MS = 300;
/** Windows that are sent over the slow link. */
const ROUNDS = 5;
const SOON = (): AbortSignal => AbortSignal.timeout(20_000);

/** Waits until all of it is there, and checks that no more came twice than may. */
async function complete({ arrived }: BadLinkRig, sent: readonly string[], losses: number): Promise<void> {
  await waitFor(() => new Set(arrived()).size >= sent.length, { timeoutMs: 20_000, what: 'all to arrive' });
  expect(new Set(arrived())).toEqual(new Set(sent));
  expect(arrived().length - sent.length).toBeLessThanOrEqual(losses * BAD_LINK_WINDOW);
}

/** @param withWaits also what takes seconds because time has to pass. */
export function badLinkSuite(name: string, create: () => Promise<BadLinkRig>, withWaits: boolean): void {
  if (withWaits) waitingSuite(name, create);
  describe(`${name} on a link that is cut`, () => {
    it('half-open towards us alone: what the peer has got and we do not know of comes twice, and no more', async () => {
      await using rig = await create();
      await using upstream = startRig(rig.transport, 'live_first', hastyClock);
      const sent = await upstream.append(100, 'a');
      await upstream.drained();
      rig.proxy.blackHole('down');
      sent.push(...(await upstream.append(200, 'b')));
      await waitFor(() => rig.arrived().length > 100, { what: 'something to arrive' });
      rig.proxy.cut();
      rig.proxy.pass();
      await upstream.drained(30_000);
      await complete(rig, sent, 1);
    });

    it('reset in the middle of a transfer, again and again', async () => {
      await using rig = await create();
      await using upstream = startRig(rig.transport, 'live_first', hastyClock);
      const large = 'x'.repeat(50_000);
      const sent: string[] = [];
      for (let cut = 0; cut < 4; cut += 1) {
        const losses = upstream.telemetry.of('endpoint_disconnected').length;
        // In the third message, or in the first word that comes back.
        if (cut % 2 === 0) rig.proxy.cutAfter('up', 125_000);
        else rig.proxy.cutAfter('down', 20);
        sent.push(...(await upstream.append(5, `${large}${cut}-`)));
        await waitFor(() => upstream.telemetry.of('endpoint_disconnected').length > losses, { what: 'the cut' });
        await upstream.drained();
      }
      await complete(rig, sent, 4);
    });

    it('cut anywhere on the way in: TLS, OPEN, tokens', async () => {
      await using rig = await create();
      const { proxy, transport } = rig;
      await transport.open(SOON());
      const bytes = { ...proxy.receivedBytes };
      await transport.close();
      for (const direction of ['up', 'down'] as const) {
        for (const part of [0.02, 0.2, 0.4, 0.6, 0.8, 0.95]) {
          proxy.cutAfter(direction, Math.max(1, Math.floor(bytes[direction] * part)));
          const startedMs = performance.now();
          const error: unknown = await transport.open(SOON()).catch((reason: unknown) => reason);
          expect(error).toBeInstanceOf(GatewayError);
          expect((error as GatewayError).kind).toBe('transient');
          // Told by the reset, not by a deadline.
          expect(performance.now() - startedMs).toBeLessThan(2000);
        }
      }
      await transport.open(SOON());
      await transport.close();
    });
  });
}

function waitingSuite(name: string, create: () => Promise<BadLinkRig>): void {
  describe(`${name} on a slow link, and a silent one`, () => {
    it('delayed by 300 ms: as fast as the window allows', async () => {
      await using rig = await create();
      await using upstream = startRig(rig.transport);
      const sent = await upstream.append(1, 'first');
      await upstream.drained();
      rig.proxy.delay(DELAY_MS);
      const startedMs = performance.now();
      sent.push(...(await upstream.append(ROUNDS * BAD_LINK_WINDOW)));
      await upstream.drained(30_000);
      const tookMs = performance.now() - startedMs;
      // A window in each round trip, where one by one every message would take one; as much again for a busy machine.
      expect(tookMs).toBeGreaterThan(2 * DELAY_MS);
      expect(tookMs).toBeLessThan(2 * ROUNDS * 2 * DELAY_MS);
      rig.proxy.delay(0);
      await complete(rig, sent, 0);
    });

    it('half-open: noticed by its silence, and made anew', async () => {
      await using rig = await create();
      await using upstream = startRig(rig.transport, 'live_first', hastyClock);
      const sent = await upstream.append(100, 'a');
      await upstream.drained();
      const { acceptedTotal } = rig.proxy;
      rig.proxy.blackHole();
      sent.push(...(await upstream.append(200, 'b')));
      await waitFor(() => upstream.telemetry.of('endpoint_disconnected').length > 0, {
        timeoutMs: 20_000,
        what: 'the loss to be noticed',
      });
      rig.proxy.pass();
      await upstream.drained(30_000);
      expect(rig.proxy.acceptedTotal).toBeGreaterThan(acceptedTotal);
      await complete(rig, sent, 1);
    });
  });
}
