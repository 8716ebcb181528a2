// What a device sends, between the heads, which parse it, and the hub; a will is one too.

import type { SystemProperties } from '../message.ts';

/** A device-to-cloud message as a head parsed it. */
export interface TelemetryMessage {
  readonly body: Uint8Array;
  readonly properties: Readonly<Record<string, string>>;
  readonly systemProperties: SystemProperties;
  readonly interfaceId?: string;
  readonly outputName?: string;
  /** Of the connection, where the session knows it. */
  readonly modelId?: string;
}
