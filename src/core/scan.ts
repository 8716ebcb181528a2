// Contract of a search for devices on a wire: what a module offers, and what a person sees of it while it runs. A scan
// only reads; it never writes to a device.

import type { z } from 'zod';
import type { Adapter } from './adapter.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './log.ts';

/** Something that was found. Plain data, ready to be shown. */
export interface ScanFinding {
  /** Where: `tcp://10.0.0.5:502 unit 3`, `/dev/ttyUSB0 9600 baud, parity none, unit 1`. */
  readonly place: string;
  /** What is known of it, by names for people: `vendor_name`, `readable`, `byte order`, … */
  readonly facts: Readonly<Record<string, string>>;
  /** A piece of configuration (YAML) that would read it. */
  readonly suggestion?: string;
}

export type ScanEvent =
  /** First of all: how long it takes at most when nothing answers. */
  | { readonly kind: 'estimate'; readonly longestMs: number; readonly text: string }
  /** At least once a second or so; `remainingMs` grows when something answers that takes longer to look at. */
  | { readonly kind: 'progress'; readonly doneShare: number; readonly remainingMs: number; readonly text: string }
  /** What is known of something that answered and is still looked at; `found` tells the rest, or the scan ends first. */
  | { readonly kind: 'partial'; readonly finding: ScanFinding }
  | { readonly kind: 'found'; readonly finding: ScanFinding }
  /** Something to know: a port that could not be opened, a limit that was reached. */
  | { readonly kind: 'note'; readonly text: string };

/** A device profile that a device which is found may fit. */
export interface ScanProfile {
  readonly name: string;
  /** What stands in its file. */
  readonly values: Readonly<Record<string, unknown>>;
}

export interface ScanContext {
  readonly clock: Clock;
  readonly log: Logger;
  /** Ends the scan: soon, with everything it opened closed. */
  readonly signal: AbortSignal;
  readonly report: (event: ScanEvent) => void;
  /** Adapters of the same module that run in this gateway: their lines are used through `Adapter.lendLine`. */
  readonly running: readonly Adapter[];
  /** The profiles of the module that have no faults, those of the user first. */
  readonly profiles: () => readonly ScanProfile[];
}

/** What a module that can search for devices declares. */
export interface ScanDefinition<Schema extends z.ZodObject = z.ZodObject> {
  /**
   * What to search. Fields take texts, as the command line gives them (`--unit-ids 1-10` is `unit_ids`), beside their own
   * types; booleans are flags.
   */
  readonly options: Schema;
  /** @throws GatewayError GW_USAGE for options that cannot be; GW_ABORTED once the signal has. */
  readonly load: () => Promise<(options: z.output<Schema>, context: ScanContext) => Promise<void>>;
}

/** A scan that somebody asks for. */
export interface ScanRequest {
  /** Type of the module: `modbus`, `serial`. */
  readonly type: string;
  readonly options: Readonly<Record<string, unknown>>;
}
