// The presets by name.

import type { Clock } from '#sdk';
import type { PresetName } from '../config.ts';
import type { Dialect } from '../dialect.ts';
import { createHomie } from './homie.ts';
import { createShelly } from './shelly.ts';
import { createSparkplug } from './sparkplug.ts';
import { createTasmota } from './tasmota.ts';
import { createZigbee2mqtt } from './zigbee2mqtt.ts';

const PRESETS: Readonly<Record<PresetName, (clock: Pick<Clock, 'wallMs'>) => Dialect>> = {
  tasmota: createTasmota,
  shelly: createShelly,
  zigbee2mqtt: createZigbee2mqtt,
  homie: createHomie,
  sparkplug: createSparkplug,
};

export function createPreset(name: PresetName, clock: Pick<Clock, 'wallMs'>): Dialect {
  return PRESETS[name](clock);
}
