// Devices that the peer refuses for a while: whatever it refuses and takes again, nobody else waits, each device keeps its
// order, and every message is delivered once or stands in the quarantine.

import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../src/core/device.ts';
import type { FailureKind } from '../../src/core/delivery.ts';
import { LIMITS } from '../../src/core/limits.ts';
import type { OutboxQueue } from '../../src/core/outbox.ts';
import { ScriptedEndpoint, textOf } from '../support/scripted-endpoint.ts';
import { hastyClock, startRig, type UpstreamRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const DEVICES = ['a', 'b', 'c', 'd'] as const;
type Device = (typeof DEVICES)[number];

type Step =
  | { readonly kind: 'append'; readonly device: Device; readonly count: number }
  | { readonly kind: 'refuse'; readonly device: Device; readonly as: FailureKind }
  | { readonly kind: 'allow'; readonly device: Device }
  | { readonly kind: 'release' }
  | { readonly kind: 'throttle' }
  | { readonly kind: 'drop' };

const device = fc.constantFrom(...DEVICES);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('append'), device, count: fc.integer({ min: 1, max: 40 }) }) },
  // Some of these are more than may be held.
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('append'), device, count: fc.constant(1300) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('refuse'),
      device,
      as: fc.constantFrom<FailureKind>('unauthorized', 'invalid', 'transient'),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('allow'), device }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'release' }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'throttle' }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'drop' }) },
);

/** Like a queue on disk: what is taken is leased at once and comes some turns later. */
function late(queue: OutboxQueue, turns: readonly number[]): OutboxQueue {
  let takes = 0;
  return {
    name: queue.name,
    async take(lane, limit) {
      const taken = await queue.take(lane, limit);
      const wait = turns[takes % Math.max(1, turns.length)] ?? 0;
      takes += 1;
      for (let turn = 0; turn < wait; turn += 1) await nextTurn();
      return taken;
    },
    available: (lane, signal) => queue.available(lane, signal),
    settle: (settlements) => queue.settle(settlements),
    split: () => queue.split(),
    stats: () => queue.stats(),
  };
}

/** A rig, its peer, and what they are to have done. */
class Site {
  readonly #endpoint = new ScriptedEndpoint();
  readonly #rig: UpstreamRig;
  readonly #refused = new Map<Device, FailureKind>();
  readonly #wereRefused = new Set<Device>();
  /** Were refused, and may still be held back. */
  readonly #suspended = new Set<Device>();
  readonly #appended = new Map<Device, string[]>(DEVICES.map((one) => [one, []]));
  #isThrottling = false;

  constructor(order: 'live_first' | 'strict', window: number, turns: readonly number[]) {
    this.#endpoint.capabilities = { negativeAcknowledgement: true, window, batchMessages: Math.min(window, 16) };
    this.#endpoint.react = ({ message: { deviceId } }) => {
      if (this.#isThrottling) return { status: 'retry', kind: 'throttled', reason: 'too much' };
      const kind = this.#refused.get(deviceId as string as Device);
      return kind === undefined ? { status: 'accepted' } : { status: 'retry', kind, reason: 'refused' };
    };
    this.#rig = startRig(this.#endpoint, order, hastyClock, (queue) => late(queue, turns));
  }

  async take(next: Step): Promise<void> {
    // The scripted peer answers within one turn: from here on nothing is in flight, so nothing may overtake anything.
    await nextTurn();
    switch (next.kind) {
      case 'append':
        await this.#append(next.device, next.count);
        break;
      case 'refuse':
        this.#refused.set(next.device, next.as);
        this.#suspended.add(next.device);
        this.#wereRefused.add(next.device);
        break;
      case 'allow':
        this.#refused.delete(next.device);
        break;
      case 'release':
        await this.#released();
        break;
      case 'throttle':
        this.#isThrottling = true;
        await nextTurn();
        this.#isThrottling = false;
        break;
      case 'drop':
        this.#endpoint.drop();
        break;
    }
  }

  async #append(to: Device, count: number): Promise<void> {
    const texts = this.#appended.get(to) ?? [];
    const prefix = `${to}${texts.length}-`;
    const added = await this.#rig.append(count, prefix, { deviceId: parseDeviceId(to) });
    texts.push(...added);
    if (this.#suspended.has(to)) return;
    const last = added.at(-1);
    await waitFor(() => last !== undefined && this.#endpoint.accepted.includes(last), {
      timeoutMs: 5000,
      everyMs: 1,
      what: `${to}, which was never refused, to be delivered`,
    });
  }

  /** What is not refused any more is let go. */
  async #released(): Promise<void> {
    for (const one of this.#suspended) {
      if (this.#refused.has(one)) continue;
      const last = this.#appended.get(one)?.at(-1);
      const isThere = async (): Promise<boolean> =>
        last === undefined || this.#endpoint.accepted.includes(last) || (await this.#quarantined(one)).has(last);
      await waitFor(isThere, { timeoutMs: 5000, what: `${one}, which is refused no more, to be delivered` });
      this.#suspended.delete(one);
    }
  }

  async #quarantined(one: Device): Promise<ReadonlySet<string>> {
    const quarantined = await this.#rig.outbox.quarantined({ limit: LIMITS.quarantine_messages });
    return new Set(
      quarantined.filter(({ stored }) => stored.message.deviceId === one).map(({ stored }) => textOf(stored)),
    );
  }

  /** Refuses nothing any more, and compares. */
  async finish(): Promise<void> {
    this.#refused.clear();
    await this.#rig.drained(10_000);
    for (const one of DEVICES) {
      const appended = this.#appended.get(one) ?? [];
      const aside = await this.#quarantined(one);
      const arrived = this.#endpoint.acceptedMessages
        .filter(({ message }) => message.deviceId === one)
        .map((stored) => textOf(stored));
      expect(arrived).toEqual(appended.filter((text) => !aside.has(text)));
      if (!this.#wereRefused.has(one)) expect(aside.size).toBe(0);
    }
    expect(this.#rig.runner.status().pausedReason).toBeUndefined();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#rig[Symbol.asyncDispose]();
  }
}

describe('refused devices', () => {
  it('delay nobody else, keep their order and lose nothing', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 5, maxLength: 40 }),
        fc.constantFrom('live_first' as const, 'strict' as const),
        fc.integer({ min: 1, max: 64 }),
        // Turns that each take lasts.
        fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 5 }),
        async (steps, order, window, turns) => {
          await using site = new Site(order, window, turns);
          for (const next of steps) await site.take(next);
          await site.finish();
        },
      ),
      { numRuns: 60 },
    );
  });
});
