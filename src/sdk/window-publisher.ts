// Publishes over one MQTT connection: a bounded window of unanswered messages in the order of the calls, an answer for
// each, and a watch on the oldest. Beside them one notice at a time (the answer to a command), which goes before the messages.
//
// Invariants:
// - Each send resolves once, with one result a message; never rejects.
// - No more than `window` messages are unanswered on the wire, those of a send that was given up included; and none is more
//   than two windows ahead of the oldest of them.
// - No more than `quota` are unanswered altogether (MQTT 5, 3.3.4-9): where there is no room beside the messages, the notice
//   waits for them, and they for it.
// - A send that the connection's end cut short resolves after `closed` is known to whoever waits for it.

import type { Clock } from '../core/clock.ts';
import type { DeliveryResult } from '../core/delivery.ts';
import type { StoredMessage } from '../core/message.ts';
import type { MqttConnection } from '../wire/mqtt.ts';
import type { MqttPublishProperties } from '../wire/mqtt-messages.ts';

/** A message as it goes on the wire, or why it never will. */
export type Outgoing =
  | { readonly topic: string; readonly payload: Uint8Array; readonly properties: MqttPublishProperties | undefined }
  | { readonly rejected: string };

export interface WindowPublisherOptions {
  readonly connection: MqttConnection;
  /** At most `quota`. */
  readonly window: number;
  /** What the server takes at once. */
  readonly quota: number;
  readonly ackTimeoutMs: number;
  readonly clock: Clock;
  readonly encode: (stored: StoredMessage) => Outgoing;
  /** What the reason code of a PUBACK means for its message; 0 in MQTT 3.1.1. */
  readonly resultOf: (reasonCode: number) => DeliveryResult;
}

interface Job {
  readonly batch: readonly StoredMessage[];
  readonly results: (DeliveryResult | undefined)[];
  /** Next message of the batch to publish. */
  next: number;
  unanswered: number;
  readonly signal: AbortSignal;
  readonly finish: (results: readonly DeliveryResult[]) => void;
}

/** What goes beside the messages. */
interface Notice {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly properties: MqttPublishProperties | undefined;
  readonly done: (code: number | undefined) => void;
}

/** Room for messages on the wire, in windows: those answered ahead of the oldest still count. */
const RING_WINDOWS = 2;

const LOST: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'The connection was lost before the peer answered.',
});
const STOPPED: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'Stopped on request.' });

export class WindowPublisher {
  readonly #options: WindowPublisherOptions;
  /** Sends with messages not yet published, in the order of the calls. */
  readonly #waiting: Job[] = [];
  /**
   * Those that may stop a send, each listened to once. A listener for every send would be a link in the signal's chain of
   * listeners; once one link is in the old generation, a collection of the young keeps all later ones, with their messages.
   */
  readonly #signals = new Set<AbortSignal>();
  /**
   * Published messages are numbered in the order in which they left, and stand in rings by that number: thousands of them
   * outlive a collection of the young, and objects would be moved by it one by one.
   */
  readonly #sentJobs: (Job | undefined)[];
  /** Of each, its place in the job's batch. */
  readonly #sentPlaces: Uint32Array;
  readonly #ring: number;
  /** Number of the oldest that is unanswered; `#next` when none is. */
  #oldest = 0;
  #next = 0;
  #unanswered = 0;
  #oldestSinceMs = 0;
  #cancelWatch: (() => void) | undefined;
  /** Messages that may be unanswered now: fewer while the notice needs the room of one. */
  #most: number;
  /** Not yet published. */
  #notice: Notice | undefined;
  #cancelNoticeWatch: (() => void) | undefined;
  #ended = false;

  constructor(options: WindowPublisherOptions) {
    this.#options = options;
    this.#ring = options.window * RING_WINDOWS;
    this.#sentJobs = [];
    this.#sentPlaces = new Uint32Array(this.#ring);
    this.#most = options.window;
  }

  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    if (this.#ended || signal.aborted) return Promise.resolve(batch.map(() => (this.#ended ? LOST : STOPPED)));
    if (batch.length === 0) return Promise.resolve([]);
    if (!this.#signals.has(signal)) {
      this.#signals.add(signal);
      signal.addEventListener('abort', this.#onAbort);
    }
    return new Promise((finish) => {
      const results: (DeliveryResult | undefined)[] = Array.from({ length: batch.length });
      this.#waiting.push({ batch, results, next: 0, unanswered: batch.length, signal, finish });
      this.#publish();
    });
  }

  /** The peer's code, or undefined when the connection ended before it. One at a time, small enough for the peer. */
  notify(
    topic: string,
    payload: Uint8Array,
    properties: MqttPublishProperties | undefined,
  ): Promise<number | undefined> {
    if (this.#ended) return Promise.resolve(undefined);
    const { window, quota } = this.#options;
    return new Promise((resolve) => {
      const done = (code: number | undefined): void => {
        this.#cancelNoticeWatch?.();
        this.#cancelNoticeWatch = undefined;
        this.#most = window;
        resolve(code);
        if (code !== undefined && !this.#ended) this.#publish();
      };
      this.#most = Math.min(window, quota - 1);
      this.#notice = { topic, payload, properties, done };
      this.#publishNotice();
    });
  }

  readonly #onAbort = (): void => {
    for (const job of this.#jobs()) if (job.signal.aborted) this.#giveUp(job, STOPPED);
  };

  /** All sends that are not answered whole, in the order of the calls. */
  #jobs(): Set<Job> {
    const jobs = new Set<Job>();
    for (let number = this.#oldest; number < this.#next; number += 1) {
      const job = this.#sentJobs[number % this.#ring];
      if (job !== undefined) jobs.add(job);
    }
    for (const job of this.#waiting) jobs.add(job);
    return jobs;
  }

  /** The connection is gone: whatever was not answered is to be sent again. */
  end(): void {
    this.#ended = true;
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
    this.#cancelNoticeWatch?.();
    this.#notice?.done(undefined);
    this.#notice = undefined;
    const jobs = this.#jobs();
    this.#sentJobs.length = 0;
    this.#oldest = this.#next;
    this.#unanswered = 0;
    this.#waiting.length = 0;
    for (const signal of this.#signals) signal.removeEventListener('abort', this.#onAbort);
    this.#signals.clear();
    for (const job of jobs) this.#giveUp(job, LOST);
  }

  #giveUp(job: Job, result: DeliveryResult): void {
    if (job.unanswered === 0) return;
    for (let index = 0; index < job.results.length; index += 1) job.results[index] ??= result;
    job.next = job.batch.length;
    job.unanswered = 0;
    job.finish(job.results as DeliveryResult[]);
  }

  #publish(): void {
    const { connection, encode } = this.#options;
    for (let job = this.#waiting[0]; job !== undefined; job = this.#waiting[0]) {
      while (job.next < job.batch.length) {
        if (this.#unanswered >= this.#most || this.#next - this.#oldest >= this.#ring || this.#ended) return;
        const index = job.next;
        job.next += 1;
        const outgoing = encode(job.batch[index] as StoredMessage);
        if ('rejected' in outgoing) {
          this.#answer(job, index, { status: 'rejected', reason: outgoing.rejected });
          continue;
        }
        const number = this.#next;
        this.#sentJobs[number % this.#ring] = job;
        this.#sentPlaces[number % this.#ring] = index;
        this.#next += 1;
        this.#unanswered += 1;
        if (number === this.#oldest) this.#watch();
        connection.publish(outgoing.topic, outgoing.payload, outgoing.properties, this.#answered, number);
      }
      this.#waiting.shift();
    }
  }

  #publishNotice(): void {
    const notice = this.#notice;
    if (notice === undefined || this.#unanswered > this.#most) return;
    this.#notice = undefined;
    this.#watchNotice(this.#next);
    this.#options.connection.publish(notice.topic, notice.payload, notice.properties, notice.done);
  }

  /** `before`: number of the first message that left after it. While older ones are unanswered, the watch on them counts. */
  #watchNotice(before: number): void {
    const { clock, ackTimeoutMs } = this.#options;
    const isBehind = this.#oldest < before;
    this.#cancelNoticeWatch = clock.after(ackTimeoutMs, () => {
      if (isBehind) this.#watchNotice(before);
      else this.#giveUpConnection();
    });
  }

  /** Kept as one function for all publishes. */
  readonly #answered = (code: number | undefined, number: number): void => {
    const place = number % this.#ring;
    const job = this.#sentJobs[place];
    // Without a code the connection is ending, and `end` answers for everything in the right moment.
    if (code === undefined || job === undefined || this.#ended) return;
    this.#sentJobs[place] = undefined;
    this.#unanswered -= 1;
    if (number === this.#oldest) {
      while (this.#oldest < this.#next && this.#sentJobs[this.#oldest % this.#ring] === undefined) this.#oldest += 1;
      this.#watch();
    }
    this.#answer(job, this.#sentPlaces[place] as number, this.#options.resultOf(code));
    this.#publishNotice();
    if (this.#waiting.length > 0) this.#publish();
  };

  #answer(job: Job, index: number, result: DeliveryResult): void {
    if (job.results[index] !== undefined) return;
    job.results[index] = result;
    job.unanswered -= 1;
    if (job.unanswered === 0) job.finish(job.results as DeliveryResult[]);
  }

  /**
   * Times the oldest unanswered message from the moment it became the oldest: a slow link that still moves is not dead,
   * and since PUBACKs come in order (MQTT 3.1.1, 4.6), one that is passed over never comes.
   */
  #watch(): void {
    const { ackTimeoutMs, clock } = this.#options;
    if (this.#unanswered === 0) return;
    this.#oldestSinceMs = clock.monotonicMs();
    this.#cancelWatch ??= clock.after(ackTimeoutMs, () => this.#check());
  }

  #check(): void {
    const { ackTimeoutMs, clock } = this.#options;
    this.#cancelWatch = undefined;
    if (this.#unanswered === 0) return;
    const leftMs = this.#oldestSinceMs + ackTimeoutMs - clock.monotonicMs();
    if (leftMs <= 0) this.#giveUpConnection();
    else this.#cancelWatch = clock.after(leftMs, () => this.#check());
  }

  #giveUpConnection(): void {
    const { ackTimeoutMs, connection } = this.#options;
    connection.destroy(`The peer left a message unanswered for ${ackTimeoutMs} ms.`);
  }
}
