// Messages on their way to one address, and the link that takes them: opened with the first message, bounded by the peer's
// credit, opened again when it was lost. What goes wrong here concerns no other address.
//
// Invariants:
// - Every entry is answered once, in whatever state the link is, or stays here until `end`.
// - Entries leave in the order in which they came. What was under way when the peer ended the link goes one at a time.
// - A lane that is `patient` keeps what it could not send; the others give it back at once while nothing can be sent, so that
//   one address does not fill the window of all.

import type { DeliveryResult } from '../core/delivery.ts';
import type { AmqpClientSender, AmqpSenderOptions } from '../wire/amqp-client-types.ts';
import type { AmqpError } from '../wire/amqp-types.ts';
import type { AmqpConditions, AmqpLinkEnd } from './amqp-conditions.ts';
import { LaneQueue, type AmqpBatchLimits, type LaneBatch, type LaneEntry } from './amqp-lane-queue.ts';
import { LaneSuspects, messagesOf } from './amqp-suspects.ts';

/** What a lane needs of its publisher. */
export interface LaneHost {
  /** Messages that may be sent now, over all lanes. */
  readonly room: () => number;
  /** Unsettled messages came to be, or (negative) are no more. */
  readonly unsettled: (change: number) => void;
  /** Has something to send and no room. */
  readonly waitsForRoom: (lane: AmqpLane) => void;
  /** The peer left something unanswered for too long, or answered something. */
  readonly silence: (isSilent: boolean) => void;
  /** Undefined when no link can be opened now. */
  readonly openSender: (options: AmqpSenderOptions) => AmqpClientSender | undefined;
  readonly monotonicMs: () => number;
}

export interface LaneOptions {
  readonly host: LaneHost;
  readonly address: string;
  readonly window: number;
  readonly patient: boolean;
  readonly conditions: Pick<AmqpConditions, 'answerResult' | 'linkEnd' | 'peer'>;
  /** Messages of one address may go together as one. */
  readonly batch?: AmqpBatchLimits | undefined;
  readonly ackTimeoutMs: number;
  /** For the answer to an attach. */
  readonly openTimeoutMs: number;
  /** A link was refused or lost, for the first time since it carried something. */
  readonly onRefused: (address: string, reason: string) => void;
}

const REOPEN_INITIAL_MS = 1000;
const REOPEN_CEILING_MS = 60_000;
/** Without an answer to the attach, or without credit while nothing is unsettled, for so long: nothing is taken here. */
const PATIENCE_MS = 3000;
/** Links that carried so many messages are made anew, before counters of 32 bits pass their end (AMQP 1.0, 1.6.5). */
const MESSAGES_OF_A_LINK = 2 ** 31;

export class AmqpLane {
  readonly address: string;
  readonly #options: LaneOptions;
  readonly #waiting: LaneQueue;
  readonly #suspects: LaneSuspects;
  /** A suspect is under way, and nothing else. */
  #isTrial = false;
  #sender: AmqpClientSender | undefined;
  #isOpen = false;
  /** Of the present link, by their numbers. */
  #sent: (LaneEntry | LaneBatch | undefined)[] = [];
  #oldest = 0;
  #next = 0;
  #unsettled = 0;
  /** When the oldest became the oldest, and when the link was begun. */
  #oldestSinceMs = 0;
  #beganMs = 0;
  #usedMs: number;
  #creditlessSinceMs: number | undefined;
  /** Why there is no link, until it may be tried again. */
  #refusal: (AmqpLinkEnd & { readonly retryAtMs: number }) | undefined;
  #refusals = 0;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.address = options.address;
    this.#waiting = new LaneQueue(options.batch);
    this.#suspects = new LaneSuspects(2 * options.window);
    this.#usedMs = options.host.monotonicMs();
  }

  get hasLink(): boolean {
    return this.#sender !== undefined;
  }

  /** When it last had something to do; undefined while it has. */
  get idleSinceMs(): number | undefined {
    return this.#unsettled > 0 || this.#waiting.size > 0 ? undefined : this.#usedMs;
  }

  /** Why nothing can be sent now, where that has lasted; undefined otherwise. */
  get stuck(): string | undefined {
    if (this.#unsettled > 0 || this.#waiting.size === 0) return undefined;
    return this.#refusal?.reason ?? this.#blocked()?.reason;
  }

  /** Everything that is not answered, what was sent first. */
  entries(): LaneEntry[] {
    return [...this.#sentEntries().flatMap(messagesOf), ...this.#waiting.all()];
  }

  push(entry: LaneEntry): void {
    const blocked = this.#options.patient ? undefined : this.#blocked();
    if (blocked !== undefined) {
      entry.answer(blocked);
      return;
    }
    if (this.#suspects.has(entry)) entry.isAlone = true;
    this.#waiting.push(entry);
  }

  /** Sends what can be sent. */
  pump(): void {
    const { host, window } = this.#options;
    while (this.#waiting.size > 0) {
      if (this.#sender === undefined) this.#open();
      const sender = this.#sender;
      if (sender === undefined || !this.#isOpen) return;
      if (host.room() <= 0) {
        host.waitsForRoom(this);
        return;
      }
      if (!(sender.capacity > 0) || this.#next - this.#oldest >= 2 * window || !this.#isFresh()) return;
      const { first } = this.#waiting;
      const isSuspect = first !== undefined && this.#suspects.has(first);
      if (this.#unsettled > 0 && (isSuspect || this.#isTrial)) return;
      this.#isTrial = isSuspect;
      const ready = this.#waiting.next(host.room());
      if (ready !== undefined) this.#send(sender, ready);
    }
  }

  /** Once a second or so: what takes too long. */
  tick(): void {
    const { ackTimeoutMs, host, openTimeoutMs, patient } = this.#options;
    const nowMs = host.monotonicMs();
    const sender = this.#sender;
    const isAttaching = sender !== undefined && !this.#isOpen;
    if (isAttaching && nowMs - this.#beganMs >= PATIENCE_MS) host.silence(true);
    if (isAttaching && nowMs - this.#beganMs >= openTimeoutMs) {
      this.#giveUp(this.#unopened);
    } else if (this.#unsettled > 0 && nowMs - this.#oldestSinceMs >= ackTimeoutMs) {
      const { peer } = this.#options.conditions;
      this.#giveUp(`The ${peer} left a message to the address "${this.address}" unsettled for ${ackTimeoutMs} ms.`);
    }
    const isCreditless = this.#isOpen && this.#unsettled === 0 && this.#waiting.size > 0 && sender?.hasCredit === false;
    if (isCreditless) this.#creditlessSinceMs ??= nowMs;
    else if (sender?.hasCredit !== false) this.#creditlessSinceMs = undefined;
    if (!patient) this.#giveBack();
    this.pump();
  }

  /** Ends the link; only while it is idle. */
  close(): void {
    this.#sender?.close();
    this.#forgetLink();
  }

  #open(): void {
    const { conditions, host, window } = this.#options;
    if (this.#refusal !== undefined && host.monotonicMs() < this.#refusal.retryAtMs) return;
    const sender = host.openSender({
      address: this.address,
      window,
      onOpen: () => {
        host.silence(false);
        this.#isOpen = true;
        this.#refusal = undefined;
      },
      onClosed: (error) => {
        host.silence(false);
        this.#lost(conditions.linkEnd(this.address, error), error);
      },
      onCapacity: () => this.pump(),
      onAnswer: (number, answer) => this.#answered(number, conditions.answerResult(answer)),
    });
    if (sender === undefined) return;
    this.#sender = sender;
    this.#beganMs = host.monotonicMs();
  }

  /** A link that has carried enough is closed once everything is settled. */
  #isFresh(): boolean {
    if (this.#next < MESSAGES_OF_A_LINK) return true;
    if (this.#unsettled === 0) {
      this.close();
      this.#open();
    }
    return false;
  }

  #send(sender: AmqpClientSender, { entry, bytes, format }: NonNullable<ReturnType<LaneQueue['next']>>): void {
    const { host, window } = this.#options;
    const { byteLength } = bytes;
    if (byteLength > (sender.maxMessageBytes ?? Number.POSITIVE_INFINITY)) {
      const reason = `The message has ${byteLength} bytes; the address "${this.address}" takes ${sender.maxMessageBytes}.`;
      entry.answer({ status: 'rejected', reason });
      return;
    }
    entry.bytes = byteLength;
    const number = sender.send(bytes, format);
    this.#sent[number % (2 * window)] = entry;
    this.#next = number + 1;
    if (this.#unsettled === 0) {
      this.#oldest = number;
      this.#oldestSinceMs = host.monotonicMs();
    }
    this.#unsettled += 1;
    host.unsettled(messagesOf(entry).length);
  }

  #answered(number: number, result: DeliveryResult): void {
    const { host, window } = this.#options;
    const place = number % (2 * window);
    const entry = this.#sent[place];
    if (entry === undefined || number < this.#oldest || number >= this.#next) return;
    host.silence(false);
    this.#sent[place] = undefined;
    this.#unsettled -= 1;
    this.#refusals = 0;
    this.#suspects.clear(entry);
    if (number === this.#oldest) {
      while (this.#oldest < this.#next && this.#sent[this.#oldest % (2 * window)] === undefined) this.#oldest += 1;
      this.#oldestSinceMs = host.monotonicMs();
      this.#usedMs = this.#oldestSinceMs;
    }
    entry.answer(result);
    host.unsettled(-messagesOf(entry).length);
    if (this.#waiting.size > 0) this.pump();
  }

  #giveUp(reason: string): void {
    this.#options.host.silence(true);
    this.#sender?.close();
    this.#lost({ kind: 'transient', reason, isSize: false, isPlace: this.#unsettled === 0 }, undefined);
  }

  /** The link is gone: what was under way is to be sent again. */
  #lost(end: AmqpLinkEnd, error: AmqpError | undefined): void {
    const { host } = this.#options;
    const lost = this.#sentEntries();
    if (!end.isSize) this.#suspects.add(lost);
    // Without a reason it may be the address, but not where it happens to one message alone.
    const isBlameless = end.isPlace && !(this.#isTrial && lost.length === 1 && error === undefined);
    const waitMs = Math.min(REOPEN_CEILING_MS, REOPEN_INITIAL_MS * 2 ** Math.min(this.#refusals, 16));
    if (this.#refusals === 0) this.#options.onRefused(this.address, end.reason);
    this.#refusals += 1;
    this.#refusal = { ...end, retryAtMs: host.monotonicMs() + waitMs };
    this.#forgetLink();
    // The largest is larger than what is taken, whichever the peer meant.
    const tooLarge = end.isSize ? Math.max(...lost.map(({ bytes }) => bytes)) : undefined;
    const { kind, reason } = end;
    for (const entry of lost) {
      if (entry.bytes === tooLarge && error !== undefined) {
        entry.answer({ status: 'rejected', reason: `A message of ${tooLarge} bytes is too large there. ${reason}` });
      } else entry.answer({ status: 'retry', kind, reason, ...(isBlameless && { blameless: true }) });
    }
    host.unsettled(-lost.reduce((sum, entry) => sum + messagesOf(entry).length, 0));
    if (!this.#options.patient) this.#giveBack();
  }

  #forgetLink(): void {
    this.#sender = undefined;
    this.#isOpen = false;
    this.#sent = [];
    this.#oldest = 0;
    this.#next = 0;
    this.#unsettled = 0;
    this.#creditlessSinceMs = undefined;
    this.#usedMs = this.#options.host.monotonicMs();
  }

  /** What a message is answered while nothing can be sent. */
  #blocked(): Extract<DeliveryResult, { status: 'retry' }> | undefined {
    const nowMs = this.#options.host.monotonicMs();
    if (this.#refusal !== undefined && this.#refusal.retryAtMs > nowMs) {
      const { kind, reason, retryAtMs } = this.#refusal;
      return { status: 'retry', kind, reason, retryAfterMs: retryAtMs - nowMs, blameless: true };
    }
    if (this.#sender !== undefined && !this.#isOpen && nowMs - this.#beganMs >= PATIENCE_MS) {
      // It was refused before, and nothing else is known yet.
      const { kind, reason } = this.#refusal ?? { kind: 'transient', reason: this.#unopened };
      return { status: 'retry', kind, reason, blameless: true };
    }
    const isCreditless = this.#creditlessSinceMs !== undefined && this.#sender?.hasCredit === false;
    if (isCreditless && nowMs - (this.#creditlessSinceMs ?? nowMs) >= PATIENCE_MS) {
      const reason = `The ${this.#options.conditions.peer} gives no credit for the address "${this.address}": it takes nothing there now.`;
      return { status: 'retry', kind: 'transient', reason, blameless: true };
    }
    return undefined;
  }

  /** Why the link is not open. */
  get #unopened(): string {
    const { peer } = this.#options.conditions;
    return this.#sender?.awaits ?? `The ${peer} does not answer the attach to the address "${this.address}".`;
  }

  #giveBack(): void {
    const blocked = this.#blocked();
    if (blocked === undefined || this.#waiting.size === 0) return;
    for (const entry of this.#waiting.clear()) entry.answer(blocked);
  }

  #sentEntries(): (LaneEntry | LaneBatch)[] {
    const entries: (LaneEntry | LaneBatch)[] = [];
    for (let number = this.#oldest; number < this.#next; number += 1) {
      const entry = this.#sent[number % (2 * this.#options.window)];
      if (entry !== undefined) entries.push(entry);
    }
    return entries;
  }
}
