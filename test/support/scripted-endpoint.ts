// An endpoint whose peer does what the test says: answers, refuses, holds, or drops the connection.

import { ACCEPTED, type DeliveryResult } from '../../src/core/delivery.ts';
import type { Endpoint, EndpointCapabilities, EndpointClosed } from '../../src/core/endpoint.ts';
import type { GatewayError } from '../../src/core/errors.ts';
import type { StoredMessage } from '../../src/core/message.ts';

/** What the peer does with one message. `drop` ends the connection, with everything unanswered. */
export type Reaction = DeliveryResult | 'drop' | 'hold';

const LOST: DeliveryResult = { status: 'retry', kind: 'transient', reason: 'lost' };

interface Waiting {
  readonly stored: StoredMessage;
  readonly answer: (result: DeliveryResult) => void;
}

export class ScriptedEndpoint implements Endpoint {
  readonly target = 'test://peer';
  capabilities: EndpointCapabilities = { negativeAcknowledgement: false, window: 8, batchMessages: 4 };
  react: (stored: StoredMessage, text: string) => Reaction = () => ACCEPTED;
  /** Thrown by the next opens, first to last. */
  readonly refusals: GatewayError[] = [];
  /** Thrown by every probe while set. */
  unreachable: GatewayError | undefined;
  /** Texts of the messages accepted, in order. */
  readonly accepted: string[] = [];
  readonly acceptedMessages: StoredMessage[] = [];
  /** Messages of each send. */
  readonly batches: string[][] = [];
  mostUnanswered = 0;
  probes = 0;
  opens = 0;
  #unanswered = 0;
  #held = new Set<Waiting>();
  #end: ((why: EndpointClosed) => void) | undefined;
  #closed: Promise<EndpointClosed> = Promise.resolve({ kind: 'transient', reason: 'never opened' });

  get held(): number {
    return this.#held.size;
  }

  probe: (signal?: AbortSignal) => Promise<void> = async () => {
    this.probes += 1;
    await Promise.resolve();
    if (this.unreachable !== undefined) throw this.unreachable;
  };

  async open(): Promise<void> {
    this.opens += 1;
    await Promise.resolve();
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    this.#closed = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  closed(): Promise<EndpointClosed> {
    return this.#closed;
  }

  async send(batch: readonly StoredMessage[], signal: AbortSignal): Promise<readonly DeliveryResult[]> {
    this.batches.push(batch.map(textOf));
    this.#unanswered += batch.length;
    this.mostUnanswered = Math.max(this.mostUnanswered, this.#unanswered);
    const results = await Promise.all(batch.map((stored) => this.#one(stored, signal)));
    this.#unanswered -= batch.length;
    return results;
  }

  async close(): Promise<void> {
    this.drop('closed');
    await this.#closed;
  }

  /** The peer ends the connection. */
  drop(reason = 'dropped', kind: EndpointClosed['kind'] = 'transient'): void {
    const end = this.#end;
    if (end === undefined) return;
    this.#end = undefined;
    end({ kind, reason });
    const held = [...this.#held];
    this.#held.clear();
    // As the contract asks: after those who wait for `closed`.
    void this.#closed.then(() => {
      for (const waiting of held) waiting.answer(LOST);
    });
  }

  /** Answers everything that is held. */
  release(result: DeliveryResult = ACCEPTED): void {
    for (const waiting of this.#held) waiting.answer(this.#note(waiting.stored, result));
    this.#held.clear();
  }

  async #one(stored: StoredMessage, signal: AbortSignal): Promise<DeliveryResult> {
    // The peer answers later than it was asked.
    await Promise.resolve();
    if (this.#end === undefined || signal.aborted) return LOST;
    const reaction = this.react(stored, textOf(stored));
    if (typeof reaction === 'object') return this.#note(stored, reaction);
    const answer = new Promise<DeliveryResult>((resolve) => {
      const waiting = { stored, answer: resolve };
      this.#held.add(waiting);
      signal.addEventListener('abort', () => {
        if (this.#held.delete(waiting)) resolve(LOST);
      });
    });
    if (reaction === 'drop') this.drop();
    return answer;
  }

  #note(stored: StoredMessage, result: DeliveryResult): DeliveryResult {
    if (result.status === 'accepted') {
      this.accepted.push(textOf(stored));
      this.acceptedMessages.push(stored);
    }
    return result;
  }
}

export function textOf(stored: StoredMessage): string {
  return Buffer.from(stored.message.body).toString();
}
