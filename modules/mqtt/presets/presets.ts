// The presets by name.

import type { AdapterContext, Clock } from '#sdk';
import type { PresetName } from '../config.ts';
import type { Dialect } from '../dialect.ts';
import { createHomie } from './homie.ts';
import { createShelly } from './shelly.ts';
import { createSparkplug } from './sparkplug.ts';
import { createTasmota } from './tasmota.ts';
import { createZigbee2mqtt } from './zigbee2mqtt.ts';

/** What presets need to know of the adapter. */
export type PresetContext = Pick<AdapterContext, 'gatewayId' | 'adapterId'> & {
  readonly clock: Pick<Clock, 'wallMs' | 'monotonicMs'>;
};

const PRESETS: Readonly<Record<PresetName, (context: PresetContext) => Dialect>> = {
  tasmota: createTasmota,
  shelly: createShelly,
  zigbee2mqtt: createZigbee2mqtt,
  homie: createHomie,
  sparkplug: ({ clock }) => createSparkplug(clock),
};

export function createPreset(name: PresetName, context: PresetContext): Dialect {
  return PRESETS[name](context);
}
