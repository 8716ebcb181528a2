// What every endpoint owes to the pump (src/core/endpoint.ts), whatever its protocol.

import { describe, expect, it } from 'vitest';
import { isGatewayError } from '../../src/core/errors.ts';
import type { Endpoint } from '../../src/core/endpoint.ts';
import type { StoredMessage } from '../../src/core/message.ts';
import { message } from '../support/builders.ts';
import { waitFor } from '../support/wait.ts';

export interface EndpointPeer extends AsyncDisposable {
  readonly endpoint: Endpoint;
  /** Bodies that arrived at the peer, in order. */
  arrived(): readonly string[];
  /** The peer goes away, and comes back. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** The peer keeps the connection and answers nothing, where it can be made to. */
  pause?(): void;
  resume?(): void;
}

function stored(text: string, seq = 1): StoredMessage {
  return { offset: seq, seq, epoch: 'abcd', messageId: `abcd.meter-1.${seq}`, message: message({ text }) };
}

function batch(count: number, prefix: string): StoredMessage[] {
  return Array.from({ length: count }, (_, index) => stored(`${prefix}${index}`, index + 1));
}

const SOON = (): AbortSignal => AbortSignal.timeout(10_000);
const NEVER = new AbortController().signal;

export function endpointSuite(name: string, create: () => Promise<EndpointPeer>): void {
  describe(`${name} as an endpoint`, () => {
    it('opens, sends in the order of the calls, closes, and opens again', async () => {
      await using peer = await create();
      const { endpoint } = peer;
      await endpoint.probe(SOON());
      await endpoint.open(SOON());
      const sends = ['a', 'b', 'c'].map((prefix) => endpoint.send(batch(40, prefix), NEVER));
      for (const results of await Promise.all(sends)) {
        expect(results).toHaveLength(40);
        expect(new Set(results.map(({ status }) => status))).toEqual(new Set(['accepted']));
      }
      await endpoint.close();
      await endpoint.close();
      await endpoint.closed();
      await endpoint.open(SOON());
      expect(await endpoint.send([stored('again')], NEVER)).toEqual([{ status: 'accepted' }]);
      await endpoint.close();
      const wanted = ['a', 'b', 'c'].flatMap((prefix) => batch(40, prefix).map((_, index) => `${prefix}${index}`));
      await waitFor(() => peer.arrived().length === 121);
      expect(peer.arrived()).toEqual([...wanted, 'again']);
    });

    it('answers an empty batch, and more than its window at once', async () => {
      await using peer = await create();
      await peer.endpoint.open(SOON());
      expect(await peer.endpoint.send([], NEVER)).toEqual([]);
      const count = peer.endpoint.capabilities.window * 2 + 3;
      const results = await peer.endpoint.send(batch(count, 'w'), NEVER);
      expect(results.filter(({ status }) => status === 'accepted')).toHaveLength(count);
      await peer.endpoint.close();
    });

    it('says retry for everything while it is closed', async () => {
      await using peer = await create();
      expect(await peer.endpoint.send([stored('x')], NEVER)).toMatchObject([{ status: 'retry' }]);
      await peer.endpoint.open(SOON());
      await peer.endpoint.close();
      expect(await peer.endpoint.send([stored('x')], NEVER)).toMatchObject([{ status: 'retry' }]);
      expect(peer.arrived()).toEqual([]);
    });

    it('says retry at once when the signal has aborted', async () => {
      await using peer = await create();
      await peer.endpoint.open(SOON());
      expect(await peer.endpoint.send([stored('x'), stored('y')], AbortSignal.abort())).toMatchObject([
        { status: 'retry' },
        { status: 'retry' },
      ]);
      await peer.endpoint.close();
      expect(peer.arrived()).toEqual([]);
    });

    it('refuses to open with an aborted signal', async () => {
      await using peer = await create();
      const opening = peer.endpoint.open(AbortSignal.abort());
      await opening.then(
        () => peer.endpoint.close(),
        (error: unknown) => expect(isGatewayError(error)).toBe(true),
      );
    });

    it('tells the end of the connection before the sends that it cut short', async () => {
      await using peer = await create();
      await peer.endpoint.open(SOON());
      peer.pause?.();
      const seen: string[] = [];
      const ended = peer.endpoint.closed().then((why) => {
        seen.push('closed');
        return why;
      });
      const sends = [batch(5, 'a'), batch(5, 'b')].map((messages) =>
        peer.endpoint.send(messages, NEVER).then((results) => {
          if (results.some(({ status }) => status === 'retry')) seen.push('send');
          return results;
        }),
      );
      await peer.endpoint.close();
      const answers = (await Promise.all(sends)).flat();
      expect(answers).toHaveLength(10);
      expect((await ended).reason).not.toBe('');
      expect(seen[0]).toBe('closed');
      if (peer.pause !== undefined) expect(seen).toEqual(['closed', 'send', 'send']);
      peer.resume?.();
    });

    it('notices that the peer went away, fails with a GatewayError meanwhile, and comes back', async () => {
      await using peer = await create();
      await peer.endpoint.open(SOON());
      const ended = peer.endpoint.closed();
      await peer.stop();
      expect(['transient', 'throttled']).toContain((await ended).kind);
      await expect(peer.endpoint.open(SOON())).rejects.toSatisfy((error: unknown) => isGatewayError(error));
      await peer.start();
      await peer.endpoint.open(SOON());
      expect(await peer.endpoint.send([stored('back')], NEVER)).toEqual([{ status: 'accepted' }]);
      await peer.endpoint.close();
    });
  });
}
