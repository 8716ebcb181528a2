// Random lives of a hub's command queue against a list: nothing that was taken is lost, order holds, and what was given up was
// abandoned as often as the limit says. A crash is a hub that is left behind, with another one over the same store.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMemoryStateStore } from '../../src/store/state/memory-state-store.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../support/hub.ts';
import { ManualClock } from '../support/manual-clock.ts';

const d1 = { deviceId: 'd1' };
const MAX_DELIVERIES = 3;

type Step =
  | { readonly kind: 'send' | 'disconnect' | 'crash' | 'lockEnd' }
  | { readonly kind: 'connect'; readonly credit: number }
  | { readonly kind: 'settle'; readonly which: number; readonly outcome: 'complete' | 'abandon' | 'reject' };

const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Step>({ kind: 'send' }) },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ kind: 'disconnect' }, { kind: 'crash' }, { kind: 'lockEnd' }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('connect' as const), credit: fc.integer({ min: 1, max: 4 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('settle' as const),
      which: fc.nat(7),
      outcome: fc.constantFrom('complete' as const, 'abandon' as const, 'reject' as const),
    }),
  },
);

interface Waiting {
  readonly name: string;
  abandoned: number;
  token: string | undefined;
}

class Life {
  rig!: HubRig;
  readonly #state = createMemoryStateStore({ clock: new ManualClock(), telemetry: { emit: () => {} } });
  waiting: Waiting[] = [];
  #credit = 0;
  #seen = 0;
  #sent = 0;
  #wallMs = 0;

  async begin(): Promise<void> {
    const clock = new ManualClock();
    clock.step(this.#wallMs);
    this.rig = await hubRig({ state: await this.#state, clock, commands: { maxDeliveryCount: MAX_DELIVERIES } });
    this.#credit = 0;
    this.#seen = 0;
    for (const command of this.waiting) command.token = undefined;
  }

  /** All that the hub does by itself has been done; the model does the same and compares. */
  async settle(): Promise<void> {
    await this.rig.hub.twins.report(HUB, d1, Buffer.from('{}'));
    await new Promise((resolve) => setImmediate(resolve));
    const fresh = this.rig.sent.slice(this.#seen);
    this.#seen = this.rig.sent.length;
    const given = fresh.flatMap((item) => (item.kind === 'command' ? [item.command] : []));
    for (const { message, lockToken, deliveryCount } of given) {
      const expected = this.waiting.find(({ token }) => token === undefined);
      expect(message.messageId).toBe(expected?.name);
      expect(deliveryCount).toBe(expected?.abandoned);
      if (expected !== undefined) expected.token = lockToken;
      this.#credit -= 1;
    }
    expect(this.#credit).toBeGreaterThanOrEqual(0);
    if (this.#credit > 0) expect(this.waiting.filter(({ token }) => token === undefined)).toEqual([]);
    const { cloudToDeviceMessageCount } = await this.rig.hub.identities.device(HUB, 'd1');
    expect(cloudToDeviceMessageCount).toBe(this.waiting.length);
  }

  async run(step: Step): Promise<void> {
    const { hub, clock } = this.rig;
    switch (step.kind) {
      case 'send': {
        this.#sent += 1;
        const name = `m${this.#sent}`;
        const body = Buffer.from(name);
        const expiresAtMs = clock.wallMs() + 86_400_000;
        const sending = hub.commands.send(HUB, d1, { body, properties: {}, messageId: name, ack: 'none', expiresAtMs });
        const refused = await refusalOf(sending);
        if (this.waiting.length < 50) {
          expect(refused).toBeUndefined();
          this.waiting.push({ name, abandoned: 0, token: undefined });
        } else expect(refused).toBe('DeviceMaximumQueueDepthExceeded');
        return;
      }
      case 'connect':
        await this.#disconnect();
        await this.rig.connect(d1, { interests: ['commands'], credit: step.credit });
        this.#credit = step.credit;
        return;
      case 'disconnect':
        await this.#disconnect();
        return;
      case 'crash':
        this.#wallMs += 1000;
        await this.begin();
        return;
      case 'lockEnd':
        this.#wallMs += 60_000;
        clock.advance(60_000);
        for (const command of this.waiting) command.token = undefined;
        return;
      case 'settle': {
        const held = this.waiting.filter(({ token }) => token !== undefined);
        const command = held[step.which % Math.max(held.length, 1)];
        if (command?.token === undefined) return;
        await hub.commands.settle(HUB, 'd1', command.token, step.outcome);
        command.token = undefined;
        if (step.outcome === 'abandon') command.abandoned += 1;
        if (step.outcome !== 'abandon' || command.abandoned >= MAX_DELIVERIES) {
          this.waiting = this.waiting.filter((one) => one !== command);
        }
      }
    }
  }

  async #disconnect(): Promise<void> {
    for (const { sessionId } of this.rig.hub.sessionsOf(HUB)) this.rig.hub.sessions.close(sessionId, 'lost');
    this.#credit = 0;
    for (const command of this.waiting) command.token = undefined;
    await this.rig.hub.twins.report(HUB, d1, Buffer.from('{}'));
  }
}

describe('commands of a hub', () => {
  it('loses, repeats and reorders nothing', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 60 }), async (run) => {
        const life = new Life();
        await life.begin();
        await life.rig.hub.identities.putDevice(HUB, d1, undefined);
        for (const step of run) {
          await life.run(step);
          await life.settle();
        }
        await life.run({ kind: 'crash' });
        const left: string[] = [];
        for (;;) {
          const command = await life.rig.hub.commands.receive(HUB, 'd1');
          if (command === undefined) break;
          left.push(command.message.messageId ?? '');
          await life.rig.hub.commands.settle(HUB, 'd1', command.lockToken, 'complete');
        }
        expect(left).toEqual(life.waiting.map(({ name }) => name));
        const keys: string[] = [];
        for await (const [key] of life.rig.state.space(`hub/${HUB}`).entries()) keys.push(key);
        expect(keys.filter((key) => /^[cx]\//.test(key))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});
