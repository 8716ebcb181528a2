// Publishes over one MQTT connection: a bounded window of unanswered messages in the order of the calls, an answer for
// each, and a watch on the oldest.
//
// Invariants:
// - Each send resolves once, with one result a message; never rejects.
// - No more than `window` messages are unanswered on the wire, those of a send that was given up included.
// - A send that the connection's end cut short resolves after `closed` is known to whoever waits for it.

import type { Clock, DeliveryResult, MqttConnection, MqttPublishProperties, StoredMessage } from '#sdk';
import { pubackResult } from './reason-codes.ts';

/** A message as it goes on the wire, or why it never will. */
export type Outgoing =
  | { readonly topic: string; readonly payload: Uint8Array; readonly properties: MqttPublishProperties | undefined }
  | { readonly rejected: string };

export interface PublisherOptions {
  readonly connection: MqttConnection;
  readonly window: number;
  readonly ackTimeoutMs: number;
  readonly clock: Clock;
  readonly encode: (stored: StoredMessage) => Outgoing;
}

interface Job {
  readonly batch: readonly StoredMessage[];
  readonly results: (DeliveryResult | undefined)[];
  /** Next message of the batch to publish. */
  next: number;
  unanswered: number;
  readonly finish: () => void;
}

interface Sent {
  readonly job: Job;
  readonly index: number;
}

const LOST: DeliveryResult = Object.freeze({
  status: 'retry',
  kind: 'transient',
  reason: 'The connection was lost before the broker answered.',
});
const STOPPED: DeliveryResult = Object.freeze({ status: 'retry', kind: 'transient', reason: 'Stopped on request.' });

export class Publisher {
  readonly #options: PublisherOptions;
  /** Sends with messages not yet published, in the order of the calls. */
  readonly #waiting: Job[] = [];
  readonly #jobs = new Set<Job>();
  /** Published and unanswered, oldest first. */
  readonly #onWire = new Set<Sent>();
  #oldest: Sent | undefined;
  #oldestSinceMs = 0;
  #cancelWatch: (() => void) | undefined;
  #ended = false;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    if (this.#ended || signal.aborted) return Promise.resolve(batch.map(() => (this.#ended ? LOST : STOPPED)));
    if (batch.length === 0) return Promise.resolve([]);
    return new Promise((resolve) => {
      const onAbort = (): void => this.#giveUp(job, STOPPED);
      const results: (DeliveryResult | undefined)[] = Array.from({ length: batch.length });
      const finish = (): void => {
        signal.removeEventListener('abort', onAbort);
        this.#jobs.delete(job);
        resolve(results as DeliveryResult[]);
      };
      const job: Job = { batch, results, next: 0, unanswered: batch.length, finish };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#jobs.add(job);
      this.#waiting.push(job);
      this.#publish();
    });
  }

  /** The connection is gone: whatever was not answered is to be sent again. */
  end(): void {
    this.#ended = true;
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
    this.#onWire.clear();
    this.#waiting.length = 0;
    for (const job of this.#jobs) this.#giveUp(job, LOST);
  }

  #giveUp(job: Job, result: DeliveryResult): void {
    if (job.unanswered === 0) return;
    for (let index = 0; index < job.results.length; index += 1) job.results[index] ??= result;
    job.next = job.batch.length;
    job.unanswered = 0;
    job.finish();
  }

  #publish(): void {
    const { connection, encode, window } = this.#options;
    for (let job = this.#waiting[0]; job !== undefined; job = this.#waiting[0]) {
      while (job.next < job.batch.length) {
        if (this.#onWire.size >= window || this.#ended) return;
        const index = job.next;
        job.next += 1;
        const outgoing = encode(job.batch[index] as StoredMessage);
        if ('rejected' in outgoing) {
          this.#answer(job, index, { status: 'rejected', reason: outgoing.rejected });
          continue;
        }
        const sent: Sent = { job, index };
        this.#onWire.add(sent);
        if (this.#oldest === undefined) this.#watch(sent);
        connection.publish(outgoing.topic, outgoing.payload, outgoing.properties, (code) => this.#answered(sent, code));
      }
      this.#waiting.shift();
    }
  }

  #answered(sent: Sent, code: number | undefined): void {
    // Without a code the connection is ending, and `end` answers for everything in the right moment.
    if (code === undefined || !this.#onWire.delete(sent)) return;
    if (sent === this.#oldest) this.#watch(this.#onWire.values().next().value);
    this.#answer(sent.job, sent.index, pubackResult(code));
    if (this.#waiting.length > 0) this.#publish();
  }

  #answer(job: Job, index: number, result: DeliveryResult): void {
    if (job.results[index] !== undefined) return;
    job.results[index] = result;
    job.unanswered -= 1;
    if (job.unanswered === 0) job.finish();
  }

  /**
   * Times the oldest unanswered message from the moment it became the oldest: a slow link that still moves is not dead,
   * and since PUBACKs come in order (MQTT 3.1.1, 4.6), one that is passed over never comes.
   */
  #watch(oldest: Sent | undefined): void {
    const { ackTimeoutMs, clock } = this.#options;
    this.#oldest = oldest;
    if (oldest === undefined) return;
    this.#oldestSinceMs = clock.monotonicMs();
    this.#cancelWatch ??= clock.after(ackTimeoutMs, () => this.#check());
  }

  #check(): void {
    const { ackTimeoutMs, clock, connection } = this.#options;
    this.#cancelWatch = undefined;
    if (this.#oldest === undefined) return;
    const leftMs = this.#oldestSinceMs + ackTimeoutMs - clock.monotonicMs();
    if (leftMs <= 0) connection.destroy(`The broker left a message unanswered for ${ackTimeoutMs} ms.`);
    else this.#cancelWatch = clock.after(leftMs, () => this.#check());
  }
}
