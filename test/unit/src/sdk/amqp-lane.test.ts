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
  let isSilent = false;
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
      silence: (given) => (isSilent = given),
      openSender: (options) => {
        opened.push(options);
        return {
          get awaits() {
            return awaits;
          },
          maxMessageBytes: undefined,
          hasCredit: true,
          capacity: 1,
          send: () => 0,
          close: () => {},
        };
      },
      monotonicMs: () => nowMs,
    },
  });
  return {
    lane,
    isSilent: () => isSilent,
    open: () => opened.at(-1)?.onOpen(),
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

describe('the silence of a peer', () => {
  it('is told of an attach that is not answered, until it is', async () => {
    const { after, isSilent, open } = rig();
    await after(2000);
    expect(isSilent()).toBe(false);
    await after(1000);
    expect(isSilent()).toBe(true);
    open();
    expect(isSilent()).toBe(false);
  });

  it('is told of messages that are given up, until the peer says something of the next link', async () => {
    const { after, isSilent, open, refuse } = rig();
    await after(0);
    open();
    await after(29_000);
    expect(isSilent()).toBe(false);
    await after(1000);
    expect(isSilent()).toBe(true);
    await after(1000);
    expect(isSilent()).toBe(true);
    refuse('amqp:not-allowed');
    expect(isSilent()).toBe(false);
  });
});
