// What follows from a point's configuration alone: its type, its size, the bits that belong to it.

import { isBitTable, parseRegister } from './address.ts';
import { swapsBytes } from './byte-order.ts';
import type { PointConfig, PointType } from './config-point.ts';
import type { AddressRange } from './holes.ts';
import { byteShift } from './values-raw.ts';

/** The type of a point that does not say it. */
export function pointType(config: PointConfig): PointType {
  if (config.type !== undefined) return config.type;
  return config.bit !== undefined || isBitTable(parseRegister(config.register).table) ? 'bool' : 'uint16';
}

/** Registers, or bits in the bit tables. */
export function pointQuantity(config: PointConfig): number {
  switch (pointType(config)) {
    case 'string':
      return config.length_registers ?? 1;
    case 'int32':
    case 'uint32':
    case 'float32':
    case 'bcd32':
      return 2;
    case 'int64':
    case 'uint64':
    case 'float64':
      return 4;
    default:
      return 1;
  }
}

/** What has to be read for a point: its value, and where it has one its scale register with all between. */
export function pointSpan(config: PointConfig): AddressRange {
  const { address } = parseRegister(config.register);
  const quantity = pointQuantity(config);
  if (config.scale_register === undefined) return { address, quantity };
  const scale = parseRegister(config.scale_register).address;
  const start = Math.min(address, scale);
  return { address: start, quantity: Math.max(address + quantity, scale + 1) - start };
}

/** The bits of a register, as it is sent, that make a bool: the one bit, or all. */
export function bitMask(config: PointConfig, order: string): number {
  if (config.bit === undefined) return 0xffff;
  return 1 << (swapsBytes(order) ? config.bit ^ 8 : config.bit);
}

/** The bits of the one register that a point has when it has not all of them. */
export function partMask(config: PointConfig, type: PointType, order: string): number | undefined {
  if (type === 'bool' && config.bit !== undefined) return bitMask(config, order);
  if (type === 'int8' || type === 'uint8') return 0xff << byteShift(order, config.byte ?? 'low');
  return undefined;
}
