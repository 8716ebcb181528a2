// What a lane says while its link is not there.

import { describe, expect, it } from 'vitest';
import type { DeliveryResult } from '../../../../src/core/delivery.ts';
import { amqpConditions } from '../../../../src/sdk/amqp-conditions.ts';
import { AmqpLane } from '../../../../src/sdk/amqp-lane.ts';
import type { AmqpSenderOptions } from '../../../../src/wire/amqp-client-types.ts';

function rig() {
  let nowMs = 0;
  /** What the link waits for before it is attached. */
  let awaits: string | undefined;
  const opened: AmqpSenderOptions[] = [];
  const lane = new AmqpLane({
    address: 'a',
    window: 4,
    patient: false,
    conditions: amqpConditions({ peer: 'hub' }),
    ackTimeoutMs: 30_000,
    openTimeoutMs: 20_000,
    onRefused: () => {},
    host: {
      room: () => 4,
      unsettled: () => {},
      waitsForRoom: () => {},
      openSender: (options) => {
        opened.push(options);
        return {
          get awaits() {
            return awaits;
          },
          maxMessageBytes: undefined,
          hasCredit: false,
          capacity: 0,
          send: () => 0,
          close: () => {},
        };
      },
      monotonicMs: () => nowMs,
    },
  });
  return {
    lane,
    refuse: (condition: string) => opened.at(-1)?.onClosed({ condition, description: 'no such device' }),
    awaits: (text: string | undefined) => (awaits = text),
    /** @returns what was answered to a message that came then. */
    after: async (ms: number): Promise<DeliveryResult | undefined> => {
      let answer: DeliveryResult | undefined;
      lane.push({
        encode: () => ({ bytes: Buffer.from('x') }),
        isDone: () => answer !== undefined,
        answer: (result) => (answer = result),
        bytes: 0,
      });
      lane.pump();
      nowMs += ms;
      lane.tick();
      return Promise.resolve(answer);
    },
  };
}

describe('a lane without its link', () => {
  it('says that the peer does not answer the attach, once that lasts', async () => {
    const { after } = rig();
    expect(await after(2000)).toBeUndefined();
    expect(await after(1000)).toMatchObject({
      kind: 'transient',
      reason: expect.stringMatching(/^The hub does not answer the attach to/) as unknown,
    });
  });

  it('says what comes before the attach while it waits for that', async () => {
    const { after, awaits } = rig();
    awaits('The hub has not answered to the token.');
    expect(await after(3000)).toMatchObject({ kind: 'transient', reason: 'The hub has not answered to the token.' });
  });

  it('goes on saying why it was refused until it is there', async () => {
    const { after, refuse } = rig();
    await after(0);
    refuse('amqp:unauthorized-access');
    // Tried again after a second, and the peer takes its time.
    await after(1000);
    expect(await after(3000)).toMatchObject({
      kind: 'unauthorized',
      reason: expect.stringMatching(/no such device/) as unknown,
    });
  });
});
