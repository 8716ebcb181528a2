// The short way of a client's publishes: taken from the bytes that it sent, stored, acknowledged, past the library, which
// makes a dozen objects and callbacks for each. It is for topics that went through the library once, so that everything
// that is asked of a publisher was asked, and that nobody subscribes to.
//
// Invariants
// - PUBACKs leave in the order of their publishes (MQTT 3.1.1, 4.6), each after the sync that `take` promised.
// - After a failure nothing more is taken or acknowledged: the client has to connect anew and sends it again.

import { LIMITS } from '#sdk';
import { PublishFrame } from './publish-frame.ts';

/** Topics of one client that are remembered; most have one or two. */
const TOPICS = 16;
/** A longer packet gains nothing here, and would be put together from many reads. */
const PACKET_MAX_BYTES = 64 * 1024;
/** PUBACK (3.4). */
const PUBACK = 0x40;
const PUBACK_BYTES = 4;

export interface PublishLaneOptions {
  /** Whether nobody but the intake is concerned by the topic. */
  readonly isQuiet: (topic: string) => boolean;
  /** As `Intake.take`. */
  readonly take: (topic: string, payload: Uint8Array) => Promise<void> | undefined;
  readonly acknowledge: (pubacks: Buffer) => void;
  /** Told for each message that was not stored; `isLast`: and nothing is taken or acknowledged any more. */
  readonly failed: (error: unknown, topic: string, isLast: boolean) => void;
  /** There is room again, or nothing is under way any more. */
  readonly moved: () => void;
}

interface KnownTopic {
  readonly topic: string;
  readonly bytes: Buffer;
}

/** Neighbours that one promise answers. */
interface Run {
  readonly topic: string;
  readonly stored: Promise<void> | undefined;
  readonly ids: number[];
  messages: number;
  bytes: number;
  isDone: boolean;
}

export class PublishLane {
  readonly #options: PublishLaneOptions;
  readonly #frame = new PublishFrame();
  /** The one used last is the first. */
  readonly #known: KnownTopic[] = [];
  /** Not acknowledged yet, oldest first. */
  #runs: Run[] = [];
  #bytes = 0;
  #isEnded = false;

  constructor(options: PublishLaneOptions) {
    this.#options = options;
  }

  /** The library has let a publish of the client on this topic pass. */
  learn(topic: string): void {
    if (this.#known.some((known) => known.topic === topic)) return;
    if (this.#known.length >= TOPICS) this.#known.pop();
    this.#known.unshift({ topic, bytes: Buffer.from(topic) });
  }

  /** Nothing waits to be stored. */
  get isIdle(): boolean {
    return this.#runs.length === 0;
  }

  /** More may be read for it. */
  get hasRoom(): boolean {
    return !this.#isEnded && this.#bytes < LIMITS.mqtt_client_unstored_bytes;
  }

  /** Whether it may be the beginning of a packet that `take` takes once it is whole. */
  awaitsRest(bytes: Buffer): boolean {
    return this.#known.length > 0 && this.#frame.find(bytes, 0, PACKET_MAX_BYTES) === 'partial';
  }

  /** Takes the packets that are whole and its own, from the first on; returns their bytes. */
  take(bytes: Buffer): number {
    const frame = this.#frame;
    let at = 0;
    let run: Run | undefined;
    while (this.#known.length > 0 && !this.#isEnded && frame.find(bytes, at, PACKET_MAX_BYTES) === 'publish') {
      const topic = this.#topicOf(bytes);
      if (topic === undefined || !this.#options.isQuiet(topic)) break;
      const { id, end } = frame;
      const stored = this.#options.take(topic, bytes.subarray(frame.bodyFrom, end));
      if (run === undefined || run.stored !== stored) {
        run = { topic, stored, ids: [], messages: 0, bytes: 0, isDone: false };
        this.#begin(run);
      }
      if (id > 0) run.ids.push(id);
      run.messages += 1;
      run.bytes += end - at;
      this.#bytes += end - at;
      at = end;
    }
    return at;
  }

  /** The topic of the frame, when it is known. */
  #topicOf(bytes: Buffer): string | undefined {
    const { topicFrom, topicTo } = this.#frame;
    const known = this.#known;
    for (let index = 0; index < known.length; index += 1) {
      const candidate = known[index] as KnownTopic;
      if (candidate.bytes.length !== topicTo - topicFrom) continue;
      if (candidate.bytes.compare(bytes, topicFrom, topicTo) !== 0) continue;
      if (index > 0) {
        known.splice(index, 1);
        known.unshift(candidate);
      }
      return candidate.topic;
    }
    return undefined;
  }

  #begin(run: Run): void {
    this.#runs.push(run);
    (run.stored ?? Promise.resolve()).then(
      () => {
        run.isDone = true;
        this.#acknowledge();
      },
      (error: unknown) => this.#fail(run, error),
    );
  }

  #fail(run: Run, error: unknown): void {
    // Nothing is promised for QoS 0.
    const ends = run.ids.length > 0 && !this.#isEnded;
    this.#isEnded ||= ends;
    for (let left = run.messages; left > 0; left -= 1) this.#options.failed(error, run.topic, ends && left === 1);
    run.isDone = true;
    this.#acknowledge();
  }

  #acknowledge(): void {
    const done = this.#runs.findIndex(({ isDone }) => !isDone);
    const runs = this.#runs.splice(0, done < 0 ? this.#runs.length : done);
    let ids = 0;
    for (const run of runs) {
      ids += run.ids.length;
      this.#bytes -= run.bytes;
    }
    if (this.#isEnded) return;
    if (ids > 0) this.#options.acknowledge(pubacks(runs, ids));
    if (runs.length > 0) this.#options.moved();
  }
}

function pubacks(runs: readonly Run[], count: number): Buffer {
  const bytes = Buffer.allocUnsafe(count * PUBACK_BYTES);
  let at = 0;
  for (const { ids } of runs) {
    for (const id of ids) {
      bytes[at] = PUBACK;
      bytes[at + 1] = 2;
      bytes[at + 2] = id >> 8;
      bytes[at + 3] = id & 0xff;
      at += PUBACK_BYTES;
    }
  }
  return bytes;
}
