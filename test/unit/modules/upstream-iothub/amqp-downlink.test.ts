// What comes down to one identity over AMQP, where the hub does not want it, or no more.

import { expect, it } from 'vitest';
import { AmqpDownlink, type AmqpDownlinkOptions } from '../../../../modules/upstream-iothub/amqp-downlink.ts';
import { HubTokens } from '../../../../modules/upstream-iothub/amqp-tokens.ts';
import type { HubCommands } from '../../../../modules/upstream-iothub/commands.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

type Opens = ReturnType<AmqpDownlinkOptions['client']['openSession']>;

const METER = { hostName: 'hub.test', dialHost: 'hub.test', deviceId: 'meter-1', sharedAccessKey: 'old' };
const REFUSED = { condition: 'amqp:unauthorized-access', description: 'No token was put for this address.' };

function downlinkWith(
  clock: ManualClock,
  options: Pick<AmqpDownlinkOptions, 'client' | 'tokens' | 'identityOf'>,
): { readonly downlink: AmqpDownlink; readonly told: readonly string[]; readonly second: () => Promise<void> } {
  const told: string[] = [];
  const downlink = new AmqpDownlink({
    ...options,
    commands: {} as HubCommands,
    wants: () => ({ methods: true, messages: true, anything: true }),
    twin: undefined,
    onNotSubscribed: (reason) => void told.push(reason),
    idleMs: 300_000,
    clock,
  });
  const second = async (): Promise<void> => {
    // The answer of the hub comes before the next tick.
    for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
    clock.advance(1000);
    downlink.tick();
    for (let turn = 0; turn < 10; turn += 1) await Promise.resolve();
  };
  return { downlink, told, second };
}

it('is tried again less and less often while the hub refuses the identity, and that is told once', async () => {
  const clock = new ManualClock();
  const triedMs: number[] = [];
  const sinceMs = clock.monotonicMs();
  const { downlink, told, second } = downlinkWith(clock, {
    client: { openSession: () => expect.unreachable('no token, no session') },
    identityOf: () => METER,
    tokens: {
      ready: () => {
        triedMs.push(clock.monotonicMs() - sinceMs);
        return Promise.reject(new GatewayError('GW_UNAUTHORIZED', 'no such device'));
      },
      forget: () => expect.unreachable('there is none'),
    },
  });
  for (let count = 0; count < 240; count += 1) await second();
  expect(triedMs.map((ms) => ms / 1000)).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183]);
  expect(told).toEqual(['no such device']);
  downlink.end();
  expect(clock.waiting).toBe(0);
});

/** A hub that takes one key, and the links of whom it has a token by it. */
function hubOf(clock: ManualClock) {
  const hub = { key: 'old', links: 0, puts: 0, revoke: (): void => {} };
  let hasToken = false;
  let identity = METER;
  const tokens = new HubTokens({
    put: () => {
      hub.puts += 1;
      hasToken = identity.sharedAccessKey === hub.key;
      return Promise.resolve({ status: hasToken ? 200 : 401, description: '' });
    },
    lifetimeMs: 3_600_000,
    refused: () => new GatewayError('GW_UNAUTHORIZED', 'a wrong key'),
    isUsed: () => true,
    onNotRenewed: () => {},
    clock,
  });
  const openSession = (): Opens => {
    const open = (link: { onClosed(error: typeof REFUSED): void }): object => {
      if (!hasToken) queueMicrotask(() => link.onClosed(REFUSED));
      else {
        hub.links += 1;
        hub.revoke = () => {
          hub.links = 0;
          hasToken = false;
          link.onClosed(REFUSED);
        };
      }
      return { close: () => {}, capacity: 0 };
    };
    return { isOver: false, openSender: open, openReceiver: open, close: () => {} } as unknown as Opens;
  };
  return {
    hub,
    client: { openSession },
    tokens,
    identityOf: () => identity,
    learn: (sharedAccessKey: string) => {
      identity = { ...METER, sharedAccessKey };
    },
  };
}

it('puts another token when the hub has ended its links for want of one', async () => {
  const clock = new ManualClock();
  const { hub, ...rest } = hubOf(clock);
  const { downlink, second } = downlinkWith(clock, rest);
  await second();
  expect(hub).toMatchObject({ puts: 1, links: 3 });
  hub.revoke();
  await second();
  expect(hub).toMatchObject({ puts: 2, links: 3 });
  downlink.end();
  rest.tokens.end();
  expect(clock.waiting).toBe(0);
});

it('is tried at once with another key, however long it waits with the former one', async () => {
  const clock = new ManualClock();
  const { hub, learn, ...rest } = hubOf(clock);
  const { downlink, second, told } = downlinkWith(clock, rest);
  await second();
  hub.key = 'new';
  hub.revoke();
  // The tries go on after 1, 3, 7, 15, 31 and 63 s.
  for (let count = 0; count < 35; count += 1) await second();
  expect(hub).toMatchObject({ puts: 6, links: 0 });
  learn('new');
  await second();
  expect(hub).toMatchObject({ puts: 7, links: 3 });
  expect(told).toHaveLength(1);
  downlink.end();
  rest.tokens.end();
  expect(clock.waiting).toBe(0);
});

it('holds the token of the new key when the former one is forgotten late', async () => {
  const { hub, learn, identityOf, tokens } = hubOf(new ManualClock());
  await tokens.ready(identityOf());
  hub.key = 'new';
  learn('new');
  await tokens.ready(identityOf());
  expect(hub.puts).toBe(2);
  tokens.forget(METER);
  await tokens.ready(identityOf());
  expect(hub.puts).toBe(2);
  tokens.end();
});
