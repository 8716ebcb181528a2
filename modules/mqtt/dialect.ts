// How devices of one kind use topics: which device a topic means, what a payload tells, how a point is written. The
// topics of the configuration are one dialect, each preset is another.

import type { PointInfo, PointValue, Reading } from '#sdk';

export interface Publish {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain?: boolean;
}

/** A publish as it came in. */
export interface Arrival {
  readonly topic: string;
  readonly payload: Uint8Array;
  /** Kept by a broker from before: tells a state, but no fresh value. */
  readonly replayed: boolean;
}

/** What an arrival told of one device; ids are as in the topic, not yet checked. */
export interface Told {
  readonly device: string;
  readonly online?: boolean;
  /** Everything known of its points, when that changed. */
  readonly points?: readonly PointInfo[];
  readonly readings?: readonly Reading[];
  /** When the device says it measured, in ms since 1970 UTC. */
  readonly wallMs?: number;
  /** The readings are from before what the device has told already. */
  readonly isHistorical?: true;
  /** Forward the payload as it is. */
  readonly forward?: { readonly contentType?: string };
  /** What came on a response topic. */
  readonly answer?: string;
  /** Facts such as `model` and `firmware`. */
  readonly identity?: Readonly<Record<string, string>>;
  /** Why a part of the payload could not be used, as a stable word; counted. */
  readonly fault?: string;
}

export interface Understood {
  readonly told: readonly Told[];
  /** What to ask the sender for, for example a rebirth. */
  readonly ask?: readonly Publish[];
}

/** How a write is sent, and what proves it. */
export interface WritePlan {
  readonly publish: readonly Publish[];
  /** `reading`: the value of the point; `answer`: what comes on the response topic; `none`: nothing does. */
  readonly confirmedBy: 'reading' | 'answer' | 'none';
  /** Of answers; beside `reading` it can tell of a refusal, or of a value that the point had already. */
  readonly judge?: Judge;
  /** The value by which the device then proves the write. Default: the one that is written. */
  readonly wanted?: PointValue;
  /** Point that tells what the device is on its way to, which proves the write as well: a shutter takes half a minute. */
  readonly goal?: string;
  /** Longest wait for that. */
  readonly timeoutMs: number;
}

/** What an answer says of the write. */
export type Judge = (answer: string) => Verdict;

export type Verdict =
  | 'confirmed'
  /** Taken, without a word of what came of it: `UNCONFIRMED` when nothing is heard by the end. */
  | 'accepted'
  | Denial
  /** The value that the point has now, which proves the write when it is the one written; undefined: nothing of it. */
  | { readonly value: PointValue | undefined };

/** The device will not do it. */
export interface Denial {
  /** The device's own code for it, as a word; `refused` when it has none. */
  readonly reason: string;
  /** What it said, for people. */
  readonly said: string;
}

/** Of an answer, what is told of it. */
const TOLD_ANSWER_CHARS = 80;

/** The beginning of what a device said. */
export function quoted(answer: string): string {
  return JSON.stringify(answer.slice(0, TOLD_ANSWER_CHARS));
}

export interface Dialect {
  readonly name: string;
  /** Subscriptions that cover all its topics. */
  readonly filters: readonly string[];
  /** The device that a publisher on the topic speaks for; undefined when the topic is not of this dialect. */
  owner(topic: string): string | undefined;
  /** Whether the topic is for commands to its owner, without one to all devices; what comes without payload may be none. */
  isCommand(topic: string, isEmpty?: boolean): boolean;
  /** Undefined when the topic is not of this dialect. Never throws: faults are told. */
  understand(arrival: Arrival): Understood | undefined;
  /** Undefined when the device or the point cannot be written. @throws GatewayError GW_WRITE_REFUSED for the value. */
  planWrite(device: string, point: string, value: PointValue): WritePlan | undefined;
  /** To publish once a connection stands. */
  greetings?(): readonly Publish[];
  /** Forgets a device that is gone. */
  forget?(device: string): void;
}
