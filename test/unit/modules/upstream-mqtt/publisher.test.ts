import { describe, expect, it } from 'vitest';
import { Publisher } from '../../../../modules/upstream-mqtt/publisher.ts';
import type { DeliveryResult } from '../../../../src/core/delivery.ts';
import type { StoredMessage } from '../../../../src/core/message.ts';
import type { MqttConnection } from '../../../../src/wire/mqtt.ts';
import { message } from '../../../support/builders.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const WINDOW = 4;
const NEVER = new AbortController().signal;

function batch(from: number, count: number): StoredMessage[] {
  return Array.from({ length: count }, (_, index) => {
    const offset = from + index;
    return { offset, seq: offset, epoch: 'e', messageId: `m${offset}`, message: message({ text: String(offset) }) };
  });
}

/** What went on the wire, by text, with what answers it. */
function create(): { publisher: Publisher; wire: string[]; answer: (text: string, code: number) => void } {
  const wire: string[] = [];
  const answers = new Map<string, (code: number) => void>();
  const publish: MqttConnection['publish'] = (_topic, payload, _properties, done, tag = 0) => {
    const text = Buffer.from(payload).toString();
    wire.push(text);
    answers.set(text, (code) => done(code, tag));
  };
  const unused = (): never => {
    throw new Error('not expected');
  };
  const publisher = new Publisher({
    connection: {
      limits: {},
      closed: new Promise(() => {}),
      publish,
      publishOnce: unused,
      subscribe: unused,
      end: unused,
      destroy: unused,
    },
    window: WINDOW,
    ackTimeoutMs: 1000,
    clock: new ManualClock(),
    encode: ({ message: { body } }) => ({ topic: 't', payload: body, properties: undefined }),
  });
  return { publisher, wire, answer: (text, code) => answers.get(text)?.(code) };
}

function statuses(results: readonly DeliveryResult[]): string[] {
  return results.map(({ status }) => status);
}

describe('Publisher', () => {
  it('answers each message by its own code, whatever the order and however often the ring goes round', async () => {
    const { publisher, wire, answer } = create();
    for (let round = 0; round < 10; round += 1) {
      const from = round * 6;
      const sent = publisher.send(batch(from, 6), NEVER);
      expect(wire).toHaveLength(from + 4);
      for (const place of [1, 0, 3, 2]) answer(String(from + place), place === 3 ? 0x87 : 0);
      expect(wire).toHaveLength(from + 6);
      answer(String(from + 5), 0x90);
      answer(String(from + 4), 0);
      expect(statuses(await sent)).toEqual(['accepted', 'accepted', 'accepted', 'retry', 'accepted', 'rejected']);
    }
  });

  it('goes no further than two windows past one that is unanswered', async () => {
    const { publisher, wire, answer } = create();
    const sent = publisher.send(batch(0, 20), NEVER);
    for (let index = 1; index < 20; index += 1) answer(String(index), 0);
    expect(wire).toHaveLength(2 * WINDOW);
    answer('0', 0);
    for (let index = 8; index < 20; index += 1) answer(String(index), 0);
    expect(new Set(statuses(await sent))).toEqual(new Set(['accepted']));
    expect(wire).toEqual(Array.from({ length: 20 }, (_, index) => String(index)));
  });

  it('counts what was given up as unanswered, and answers nothing twice', async () => {
    const { publisher, wire, answer } = create();
    const stop = new AbortController();
    const first = publisher.send(batch(0, 4), stop.signal);
    answer('1', 0);
    stop.abort();
    expect(statuses(await first)).toEqual(['retry', 'accepted', 'retry', 'retry']);
    const second = publisher.send(batch(10, 3), NEVER);
    expect(wire).toEqual(['0', '1', '2', '3', '10']);
    answer('0', 0);
    expect(wire).toHaveLength(6);
    answer('10', 0);
    publisher.end();
    answer('11', 0);
    expect(statuses(await second)).toEqual(['accepted', 'retry', 'retry']);
  });
});
