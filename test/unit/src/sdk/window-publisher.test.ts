import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { pubackResult } from '../../../../modules/upstream-mqtt/reason-codes.ts';
import { WindowPublisher } from '../../../../src/sdk/window-publisher.ts';
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
function create({ window = WINDOW, quota = Infinity } = {}): {
  publisher: WindowPublisher;
  wire: string[];
  answer: (text: string, code: number) => void;
  clock: ManualClock;
  destroyed: string[];
} {
  const wire: string[] = [];
  const destroyed: string[] = [];
  const clock = new ManualClock();
  const answers = new Map<string, (code: number) => void>();
  const publish: MqttConnection['publish'] = (_topic, payload, _properties, done, tag = 0) => {
    const text = Buffer.from(payload).toString();
    wire.push(text);
    answers.set(text, (code) => done(code, tag));
  };
  const unused = (): never => {
    throw new Error('not expected');
  };
  const publisher = new WindowPublisher({
    connection: {
      limits: {},
      closed: new Promise(() => {}),
      publish,
      publishOnce: unused,
      unsubscribe: unused,
      subscribe: unused,
      end: unused,
      destroy: (reason) => void destroyed.push(reason),
    },
    window,
    quota,
    ackTimeoutMs: 1000,
    clock,
    resultOf: pubackResult,
    encode: ({ message: { body } }) => ({ topic: 't', payload: body, properties: undefined }),
  });
  return { publisher, wire, answer: (text, code) => answers.get(text)?.(code), clock, destroyed };
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

  const notify = (publisher: WindowPublisher, text: string): Promise<number | undefined> =>
    publisher.notify('a', Buffer.from(text), undefined);

  it('sends a notice beside a full window when the server takes one more', async () => {
    const { publisher, wire, answer } = create({ quota: WINDOW + 1 });
    const sent = publisher.send(batch(0, 6), NEVER);
    const noticed = notify(publisher, 'n');
    expect(wire).toEqual(['0', '1', '2', '3', 'n']);
    answer('0', 0);
    expect(wire).toEqual(['0', '1', '2', '3', 'n', '4']);
    answer('n', 0x10);
    expect(await noticed).toBe(0x10);
    for (const text of ['1', '2', '3', '4', '5']) answer(text, 0);
    expect(new Set(statuses(await sent))).toEqual(new Set(['accepted']));
  });

  it('lets messages and notices take turns when the server takes one at a time', async () => {
    const { publisher, wire, answer } = create({ window: 1, quota: 1 });
    const sent = publisher.send(batch(0, 3), NEVER);
    const first = notify(publisher, 'n');
    expect(wire).toEqual(['0']);
    answer('0', 0);
    expect(wire).toEqual(['0', 'n']);
    answer('n', 0);
    expect(await first).toBe(0);
    expect(wire).toEqual(['0', 'n', '1']);
    answer('1', 0);
    answer('2', 0);
    expect(new Set(statuses(await sent))).toEqual(new Set(['accepted']));
    const second = notify(publisher, 'm');
    const after = publisher.send(batch(3, 1), NEVER);
    expect(wire.slice(4)).toEqual(['m']);
    answer('m', 0);
    answer('3', 0);
    expect(await second).toBe(0);
    expect(statuses(await after)).toEqual(['accepted']);
  });

  it('has patience with a notice behind messages that are answered slowly', async () => {
    const { publisher, answer, clock, destroyed } = create();
    const sent = publisher.send(batch(0, 4), NEVER);
    const noticed = notify(publisher, 'n');
    for (const text of ['0', '1', '2', '3', 'n']) {
      clock.advance(900);
      answer(text, 0);
    }
    expect(destroyed).toEqual([]);
    expect(await noticed).toBe(0);
    expect(new Set(statuses(await sent))).toEqual(new Set(['accepted']));
    expect(clock.waiting).toBe(0);
  });

  it('gives the connection up when a notice is not answered, and tells what waits of its end', async () => {
    const { publisher, wire, clock, destroyed } = create({ window: 1, quota: 1 });
    const noticed = notify(publisher, 'n');
    const sent = publisher.send(batch(0, 1), NEVER);
    clock.advance(999);
    expect(destroyed).toEqual([]);
    clock.advance(1);
    expect(destroyed).toHaveLength(1);
    publisher.end();
    expect(statuses(await sent)).toEqual(['retry']);
    expect(wire).toEqual(['n']);
    expect(await notify(publisher, 'late')).toBeUndefined();
    void noticed;

    const busy = create({ window: 1, quota: 1 });
    const unanswered = busy.publisher.send(batch(0, 1), NEVER);
    const waiting = notify(busy.publisher, 'n');
    busy.publisher.end();
    expect(await waiting).toBeUndefined();
    expect(statuses(await unanswered)).toEqual(['retry']);
  });

  it('listens to a signal once for all sends, and no longer than the connection lasts', async () => {
    const { publisher, answer } = create();
    const stop = new AbortController();
    const sends = [0, 1, 2, 3, 4, 5].map((offset) => publisher.send(batch(offset, 1), stop.signal));
    const others = publisher.send(batch(6, 1), NEVER);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(1);
    answer('1', 0);
    stop.abort();
    expect((await Promise.all(sends)).map((results) => statuses(results).join())).toEqual([
      'retry',
      'accepted',
      'retry',
      'retry',
      'retry',
      'retry',
    ]);
    for (const text of ['0', '2', '3', '4', '6']) answer(text, 0);
    expect(statuses(await others)).toEqual(['accepted']);
    const next = new AbortController();
    const last = publisher.send(batch(7, 1), next.signal);
    publisher.end();
    expect(statuses(await last)).toEqual(['retry']);
    expect(getEventListeners(next.signal, 'abort')).toHaveLength(0);
  });
});
