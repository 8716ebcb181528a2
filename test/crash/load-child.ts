// The process that is killed: several producers append, three queues drain, and every step is reported before or after it
// happened, whichever makes the report a promise.

import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { parseDeviceId } from '../../src/core/device.ts';
import { errorText, isGatewayError } from '../../src/core/errors.ts';
import type { Message, StoredMessage } from '../../src/core/message.ts';
import type { Outbox, OutboxQueue, Settlement } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import type { LevelFactory } from '../../src/platform/level-handle.ts';
import { openLevel } from '../../src/platform/level.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { openOutbox } from '../../src/store/open.ts';
import { report } from '../support/child.ts';
import {
  bodyNote,
  GATEWAY_ID,
  loadBody,
  QUEUES,
  seededRandom,
  STREAM,
  type LoadReport,
  type LoadSettings,
} from './load-protocol.ts';

const settings = JSON.parse(process.argv[2] ?? '') as LoadSettings;
const random = seededRandom(settings.seed);
const clock = new SystemClock();
const evicts = settings.mode === 'load' && settings.evicts;
const tell = (line: LoadReport): void => report(line);
/** Devices of producers that wait for their acknowledgement, and of polls, for which nobody waits. */
const DEVICES = ['press-1', 'press-2', 'pump-3', 'pump-4', 'meter-5', 'meter-6'];
const POLLED = new Set(['meter-5', 'meter-6']);

const withoutSync: LevelFactory = async (directory, tuning) => {
  const level = await openLevel(directory, tuning);
  return {
    write: (writes) => level.write(writes, { sync: false }),
    get: (key) => level.get(key),
    entries: (range) => level.entries(range),
    keys: (range) => level.keys(range),
    flush: () => level.flush(),
    compact: (first, last) => level.compact(first, last),
    close: () => level.close(),
  };
};

function open(): Promise<Outbox> {
  return openOutbox({
    directory: settings.directory,
    gatewayId: parseDeviceId(GATEWAY_ID),
    clock,
    random: systemRandom,
    settings: {
      // Some lives run into their quota all the time, so that kills meet evictions too.
      maxBytes: evicts ? 2 * 1024 ** 2 : 4 * 1024 ** 3,
      maxAgeSecs: 0,
      minFreeBytes: 0,
      whenFull: evicts ? 'drop_oldest' : 'reject',
      commitIntervalMs: 0,
      pollCommitIntervalMs: settings.seed % 2 === 0 ? 0 : 50,
    },
    queues: QUEUES,
    onEvent: (event) => {
      if (event.kind !== 'committed' && event.kind !== 'dropped') tell(['event', event]);
    },
    ...(settings.dropSync ? { level: withoutSync } : {}),
  });
}

function message(device: string, number: number): Message {
  return {
    deviceId: parseDeviceId(device),
    body: Buffer.from(loadBody(device, number)),
    properties: number % 5 === 0 ? { level: 'alarm' } : {},
    systemProperties: number % 7 === 0 ? { messageId: `own-${device}-${number}` } : {},
    time: clock.now(),
  };
}

async function produce(outbox: Outbox, device: string): Promise<void> {
  let number = settings.firstNumber;
  for (;;) {
    const count = 1 + Math.floor(random() * (random() < 0.1 ? 200 : 8));
    const numbers = Array.from({ length: count }, () => number++);
    for (const each of numbers) tell(['in', device, each, each % 5 === 0 ? 1 : 0]);
    try {
      const receipts = await outbox.append(
        numbers.map((each) => ({
          message: message(device, each),
          queues: each % 5 === 0 ? ['alarms'] : [],
          stream: { name: STREAM.name, partition: DEVICES.indexOf(device) % STREAM.partitions },
        })),
        { class: POLLED.has(device) ? 'poll' : 'acknowledged' },
      );
      receipts.forEach(({ offset, seq }, index) => tell(['ack', device, numbers[index] ?? -1, offset, seq]));
    } catch (error) {
      const code = isGatewayError(error) ? error.code : errorText(error);
      for (const each of numbers) tell(['refused', device, each, code]);
    }
    // What waits for a drain must not grow without end: the drains share this thread.
    if (outbox.stats().messages > 20_000) await clock.sleep(20);
    else await setImmediate();
  }
}

/** Outcomes for a batch. On a strict queue a retry takes all that follow along, because order is the promise. */
function judge(batch: readonly StoredMessage[], strict: boolean): Settlement[] {
  let retrying = false;
  return batch.map(({ offset, message }) => {
    if (settings.mode === 'drain') return { offset, outcome: 'accepted' };
    if (!(strict && retrying)) retrying = random() < 0.02;
    if (retrying) return { offset, outcome: 'retry' };
    const rejects = random() < 0.002 && message.deviceId !== GATEWAY_ID;
    return rejects ? { offset, outcome: 'rejected', reason: 'a test says so' } : { offset, outcome: 'accepted' };
  });
}

async function drainOnce(queue: OutboxQueue, lane: 'live' | 'history', strict: boolean): Promise<number> {
  const batch = await queue.take(lane, { maxMessages: 1 + Math.floor(random() * 300), maxBytes: 300_000 });
  if (batch.length === 0) return 0;
  for (const { message, seq, epoch } of batch) {
    tell(['out', queue.name, message.deviceId, seq, epoch, bodyNote(Buffer.from(message.body).toString())]);
  }
  const bySettlement = judge(batch, strict).map((settlement, index) => ({ settlement, stored: batch[index] }));
  // An endpoint that answers out of order; a strict one answers in order.
  if (!strict && random() < 0.5) bySettlement.reverse();
  const rejected = bySettlement.filter(({ settlement }) => settlement.outcome === 'rejected');
  // Reported before it happens: what was settled and then killed is not lost.
  const atMs = Date.now();
  for (const { settlement, stored } of bySettlement) {
    if (settlement.outcome === 'accepted' && stored !== undefined) {
      tell(['done', queue.name, stored.message.deviceId, stored.seq, atMs]);
    }
  }
  await queue.settle(bySettlement.map(({ settlement }) => settlement));
  for (const { stored } of rejected) {
    if (stored !== undefined) tell(['rejected', queue.name, stored.message.deviceId, stored.seq]);
  }
  return batch.length;
}

async function drain(outbox: Outbox, name: string, strict: boolean): Promise<void> {
  const queue = outbox.queue(name);
  const never = new AbortController().signal;
  for (let turn = 0; ; turn += 1) {
    const lane = !strict && turn % 2 === 1 ? 'history' : 'live';
    const taken = await drainOnce(queue, lane, strict);
    if (settings.mode === 'drain') {
      const { messages, inFlight } = queue.stats();
      if (messages > 0 || inFlight > 0) continue;
      // What limits took before is told when the store is open, in a message that is drained as well.
      if (outbox.stats().untoldLosses === 0) return;
      await clock.sleep(20);
      continue;
    }
    if (!strict && random() < 0.02) queue.split();
    if (evicts) await clock.sleep(Math.floor(random() * 150));
    if (taken === 0 && strict) await queue.available('live', never);
    else if (random() < 0.1) await clock.sleep(Math.floor(random() * 40));
    else await setImmediate();
  }
}

/** Reports what a partition keeps, from a number on; with `forever` also what comes. */
async function follow(outbox: Outbox, partition: number, forever: boolean): Promise<void> {
  const stream = outbox.stream(STREAM.name);
  const never = new AbortController().signal;
  let next = stream.partition(partition).firstSequence;
  // Now and then a reader begins at the end, as those that keep up do.
  if (forever && random() < 0.5) next = stream.partition(partition).lastSequence + 1;
  for (;;) {
    const limit = { maxMessages: 1 + Math.floor(random() * 500), maxBytes: 300_000 };
    const batch = await stream.read(partition, next, limit);
    for (const { sequence, stored } of batch) {
      const { message, seq, epoch } = stored;
      tell(['kept', partition, sequence, message.deviceId, seq, epoch, bodyNote(Buffer.from(message.body).toString())]);
      next = sequence + 1;
    }
    if (batch.length > 0) {
      if (forever) await clock.sleep(Math.floor(random() * 20));
      continue;
    }
    if (!forever) return;
    await stream.available(partition, Math.max(next, stream.partition(partition).firstSequence), never);
  }
}

const startedAtMs = performance.now();
const outbox = await open();
await outbox.setStreams([STREAM]);
const { messages } = outbox.stats();
tell(['opened', { messages, epoch: outbox.epoch, openMs: Math.round(performance.now() - startedAtMs) }]);
const drains = QUEUES.map(({ name, order }) => drain(outbox, name, order === 'strict'));
if (settings.mode === 'load') {
  const readers = Array.from({ length: STREAM.partitions }, (_, partition) => follow(outbox, partition, true));
  const producers = DEVICES.map((device) => produce(outbox, device));
  await Promise.race([...producers, ...drains, ...readers, once(process, 'never')]);
} else {
  await Promise.all(drains);
  for (let afterId: string | undefined; ;) {
    const page = await outbox.quarantined({ limit: 500, ...(afterId === undefined ? {} : { afterId }) });
    for (const { queue, stored } of page) tell(['quarantine', queue, stored.message.deviceId, stored.seq]);
    afterId = page.at(-1)?.id;
    if (afterId === undefined) break;
  }
  for (let partition = 0; partition < STREAM.partitions; partition += 1) await follow(outbox, partition, false);
  tell(['drained']);
  await outbox.close();
  tell(['closed']);
}
