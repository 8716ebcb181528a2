// What comes down to one identity over AMQP, where the hub does not want it.

import { expect, it } from 'vitest';
import { AmqpDownlink } from '../../../../modules/upstream-iothub/amqp-downlink.ts';
import type { HubCommands } from '../../../../modules/upstream-iothub/commands.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

it('is tried again less and less often while the hub refuses the identity, and that is told once', async () => {
  const clock = new ManualClock();
  const triedMs: number[] = [];
  const told: string[] = [];
  const sinceMs = clock.monotonicMs();
  const downlink = new AmqpDownlink({
    client: { openSession: () => expect.unreachable('no token, no session') },
    deviceId: 'meter-1',
    ready: () => {
      triedMs.push(clock.monotonicMs() - sinceMs);
      return Promise.reject(new GatewayError('GW_UNAUTHORIZED', 'no such device'));
    },
    commands: {} as HubCommands,
    wants: () => ({ methods: true, messages: true, anything: true }),
    twin: undefined,
    onNotSubscribed: (reason) => void told.push(reason),
    idleMs: 300_000,
    clock,
  });
  for (let second = 0; second < 240; second += 1) {
    // The refusal comes before the next tick.
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    clock.advance(1000);
    downlink.tick();
  }
  expect(triedMs.map((ms) => ms / 1000)).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183]);
  expect(told).toEqual(['no such device']);
  downlink.end();
  expect(clock.waiting).toBe(0);
});
