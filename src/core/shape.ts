// How the values of a device are shaped on their way from the wire to a message. The steps always run in this order:
//
//   decode (adapter) -> scale, offset, decimals -> clamp -> computed points        what people see: point cache, web page
//   -> window -> report by exception, deadband, heartbeat -> rate limit
//   -> rename -> body format -> packing                                             what leaves the gateway

import type { Limit } from './write-rules.ts';

/** `json`, `senml` (RFC 8428, JSON) or `cbor` (RFC 8949, the fields of `json`). */
export const BODY_FORMATS = ['json', 'senml', 'cbor'] as const;
export type BodyFormat = (typeof BODY_FORMATS)[number];

export const WINDOW_FUNCTIONS = ['mean', 'min', 'max', 'last', 'count'] as const;
export type WindowFunction = (typeof WINDOW_FUNCTIONS)[number];

/** Values over a stretch of time or of samples instead of each one. */
export interface WindowShape {
  /** `tumbling`: one value a window, then the next begins. `moving`: one value a sample, over the samples before it. */
  readonly mode: 'tumbling' | 'moving';
  /** The window ends after this much monotonic time … */
  readonly durationMs?: number | undefined;
  /** … or after so many samples, whichever comes first; one of both is given. */
  readonly samples?: number | undefined;
  /** With more than one, each value is a point of its own: `NAME_mean`, `NAME_max`, … */
  readonly functions: readonly WindowFunction[];
}

/** The names under which a point stands in messages: its own, or one for each of several functions of its window. */
export function windowOutputs(name: string, functions: readonly WindowFunction[] = []): readonly string[] {
  return functions.length <= 1 ? [name] : functions.map((called) => `${name}_${called}`);
}

/** Everything about one point; what is undefined does not happen. */
export interface PointShape {
  /** Value × scale + offset, rounded to `decimals`. Only for adapters whose decoding does not scale. */
  readonly scale?: number | undefined;
  readonly offset?: number | undefined;
  readonly decimals?: number | undefined;
  /** Numbers beyond are set to the nearest bound; the quality stays. */
  readonly clamp?: { readonly min?: Limit | undefined; readonly max?: Limit | undefined } | undefined;
  /** Makes the point a computed one: over other points of its device (`expression.ts`). */
  readonly expression?: string | undefined;
  readonly window?: WindowShape | undefined;
  /** Default `always`, or `on_change` where a deadband is given. */
  readonly report?: 'always' | 'on_change' | undefined;
  /** Changes of at most this much, in the point's unit, are not reported. */
  readonly deadband?: number | undefined;
  /** The same in percent of the value last reported. With both, a change has to exceed both. */
  readonly deadbandPercent?: number | undefined;
  /** Longest silence of a point that is reported on change. */
  readonly heartbeatMs?: number | undefined;
  /** Shortest time between two reports; the newest value of that time is reported at its end. */
  readonly minIntervalMs?: number | undefined;
  /** The name in messages; everywhere else the point keeps its own. */
  readonly rename?: string | undefined;
}

/** How the messages of a device are made. */
export interface MessageShape {
  readonly format?: BodyFormat | undefined;
  /** Polls gathered into one message; `off`: one message a poll. */
  readonly pack?: PackShape | 'off' | undefined;
}

export interface PackShape {
  /** Bytes of a body; a poll that does not fit begins the next message. */
  readonly maxBytes: number;
  /** Age of the oldest poll at which the message leaves. */
  readonly maxMs: number;
}

/** What holds for a whole device. */
export interface DeviceShape {
  /** Beats what the gateway says for all devices. */
  readonly messages?: MessageShape | undefined;
  /** For points that are not named in `DeviceInfo.points`. */
  readonly pointDefaults?: PointShape | undefined;
}
