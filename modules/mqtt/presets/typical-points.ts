// What devices of a preset usually have, for a simulation: the real ones tell it themselves when they speak.

import type { PointInfo, ValueKind } from '#sdk';
import type { PresetName } from '../config.ts';

const SWITCH: ValueKind = { kind: 'boolean' };

function measured(name: string, unit: string): PointInfo {
  return { name, address: name, unit, writable: false, values: { kind: 'number' } };
}

function switched(name: string): PointInfo {
  return { name, address: name, writable: true, values: SWITCH };
}

const SHELLY_GEN_2: readonly PointInfo[] = [
  switched('switch:0.output'),
  measured('switch:0.apower', 'W'),
  measured('switch:0.voltage', 'V'),
  measured('switch:0.current', 'A'),
  measured('switch:0.aenergy.total', 'Wh'),
  measured('switch:0.temperature.tC', '°C'),
];
const SHELLY_GEN_1: readonly PointInfo[] = [
  switched('relay/0'),
  measured('relay/0/power', 'W'),
  measured('temperature', '°C'),
];
/** Generation 2 and later have the model and the address of the network card for an id, as in `shellyplus1pm-a8032ab12345`. */
const SHELLY_GEN_2_ID = /^shelly(?:plus|pro|[a-z0-9]*g[34])[a-z0-9]*-/i;

const TYPICAL: Readonly<Record<PresetName, (deviceId: string) => readonly PointInfo[]>> = {
  tasmota: () => [
    switched('POWER'),
    measured('ENERGY.Power', 'W'),
    measured('ENERGY.Voltage', 'V'),
    measured('ENERGY.Current', 'A'),
    measured('ENERGY.Total', 'kWh'),
  ],
  shelly: (deviceId) => (SHELLY_GEN_2_ID.test(deviceId) ? SHELLY_GEN_2 : SHELLY_GEN_1),
  zigbee2mqtt: () => [measured('temperature', '°C'), measured('humidity', '%'), measured('battery', '%')],
  homie: () => [measured('sensor/temperature', '°C'), measured('sensor/humidity', '%'), switched('relay/power')],
  sparkplug: () => [
    measured('Inputs/Temperature', '°C'),
    measured('Inputs/Pressure', 'bar'),
    switched('Outputs/Running'),
  ],
};

export function typicalPoints(preset: PresetName, deviceId: string): readonly PointInfo[] {
  return TYPICAL[preset](deviceId);
}
