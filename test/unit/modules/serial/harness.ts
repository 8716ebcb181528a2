// What tests of the serial adapter share.

import { createSerialAdapter } from '../../../../modules/serial/adapter.ts';
import { checkSerialConfig } from '../../../../modules/serial/check-config.ts';
import { serialConfig } from '../../../../modules/serial/config.ts';
import { checksumSettings } from '../../../../modules/serial/device-plan.ts';
import { Framer } from '../../../../modules/serial/framer.ts';
import { createScanner, silenceMsOf } from '../../../../modules/serial/framing.ts';
import type { Adapter } from '../../../../src/core/adapter.ts';
import type { Recording } from '../modbus/harness.ts';

/** An adapter from a configuration as a person would write it. */
export function serialAdapter(config: unknown, recording: Recording): Adapter {
  const parsed = serialConfig.parse(config);
  const faults = checkSerialConfig(parsed);
  if (faults.length > 0) throw new Error(faults.map(({ path, message }) => `${path.join('.')}: ${message}`).join('\n'));
  return createSerialAdapter(parsed, recording.context);
}

/** `path: message` of each fault of the check. */
export function checkFaults(config: object): string[] {
  const parsed = serialConfig.parse({ path: '/dev/ttyUSB0', ...config });
  return checkSerialConfig(parsed).map(({ path, message }) => `${path.join('.')}: ${message}`);
}

export interface Frames {
  readonly framer: Framer;
  /** The frames found so far, as Latin-1 text. */
  readonly frames: string[];
  readonly faults: string[];
}

export function framerFor(framing: object, checksum?: object): Frames {
  const config = serialConfig.parse({ path: '/dev/x', framing, ...(checksum && { checksum }), devices: {} });
  const frames: string[] = [];
  const faults: string[] = [];
  const settings = checksumSettings(config);
  const framer = new Framer({
    scanner: createScanner(config.framing, settings !== undefined),
    checksum: settings,
    silenceMs: silenceMsOf(config.framing),
    sink: {
      onFrame: (frame) => frames.push(frame.toString('latin1')),
      onFault: (reason) => faults.push(reason),
    },
  });
  return { framer, frames, faults };
}
