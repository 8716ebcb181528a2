// Faults of the configuration that its schema cannot express. Each says what is wrong and what is allowed.

import { checkDeviceShape, type Claim, type ConfigFault, isCrossed, serialPortClaim } from '#sdk';
import { ADDRESS_MAX, isBitTable, isWritableTable, parseRegister, type RegisterAddress } from './address.ts';
import type { PointConfig, PointType } from './config-point.ts';
import type { TransportConfig } from './config-transport.ts';
import type { DeviceConfig, ModbusConfig } from './config.ts';
import { BROADCAST_UNIT, WRITE_REGISTERS_MAX } from './pdu.ts';
import { asTyped, integerRange } from './values-number.ts';
import { pointSpan, pointType } from './values-shape.ts';

type Report = (path: readonly (string | number)[], message: string) => void;

/** Addresses of servers on a serial bus (MODBUS over Serial Line V1.02, 2.2). */
const SERIAL_UNIT_MAX = 247;

const FLOAT_TYPES: ReadonlySet<PointType> = new Set(['float16', 'float32', 'float64']);

export function checkModbusConfig(config: ModbusConfig): readonly ConfigFault[] {
  const faults: ConfigFault[] = [];
  const report: Report = (path, message) => faults.push({ path, message });
  checkTransport(config.transport, report);
  for (const [deviceId, device] of Object.entries(config.devices)) {
    const path = ['devices', deviceId];
    checkDevice(device, config.transport, (below, message) => report([...path, ...below], message));
    for (const fault of checkDeviceShape({ device, adapter: config, points: device.points })) {
      report([...path, ...fault.path], fault.message);
    }
    for (const [name, point] of Object.entries(device.points)) {
      checkPoint(point, device, (below, message) => report([...path, 'points', name, ...below], message));
    }
  }
  return faults;
}

/** The serial port that its bus needs, as soon as one device is really there. */
export function modbusClaims({ transport, devices }: ModbusConfig): readonly Claim[] {
  if (transport.kind !== 'rtu' && transport.kind !== 'ascii') return [];
  const isReal = Object.values(devices).some(({ simulate, replay }) => !simulate && replay === undefined);
  return isReal ? [serialPortClaim(['transport', 'path'], transport.path)] : [];
}

function isSerial(transport: TransportConfig): boolean {
  return transport.kind === 'rtu' || transport.kind === 'ascii';
}

function transportHost(transport: TransportConfig): string | undefined {
  return 'host' in transport ? transport.host : undefined;
}

function checkTransport(transport: TransportConfig, report: Report): void {
  if (transport.kind !== 'tls') return;
  if ((transport.certificate === undefined) !== (transport.key === undefined)) {
    const missing = transport.key === undefined ? 'key' : 'certificate';
    report(['transport'], `certificate and key belong together; add ${missing}.`);
  }
}

function checkDevice(device: DeviceConfig, transport: TransportConfig, report: Report): void {
  if (isSerial(transport)) {
    if (device.unit_id > SERIAL_UNIT_MAX) {
      report(
        ['unit_id'],
        `a device on a serial bus has a unit id of 1 to ${SERIAL_UNIT_MAX}, or ${BROADCAST_UNIT} for a broadcast, not ${device.unit_id}.`,
      );
    }
    for (const field of ['host', 'port'] as const) {
      if (device[field] !== undefined)
        report([field], `only for tcp, tls and rtu_over_tcp; the transport is ${transport.kind}.`);
    }
  } else if (device.host === undefined && transportHost(transport) === undefined) {
    report([], 'no host: give the device a host, or one to the transport for all devices.');
  }
  checkBroadcast(device, transport, report);
  const { probe_interval_min_ms: min, probe_interval_max_ms: max } = device.circuit_breaker;
  if (min > max) {
    report(['circuit_breaker', 'probe_interval_min_ms'], `must not be above probe_interval_max_ms (${max}).`);
  }
}

function checkBroadcast(device: DeviceConfig, { kind }: TransportConfig, report: Report): void {
  if (device.unit_id !== BROADCAST_UNIT || kind === 'tcp' || kind === 'tls') return;
  for (const [name, { writable }] of Object.entries(device.points)) {
    if (writable) continue;
    const why = `nobody answers a broadcast (unit_id ${BROADCAST_UNIT}), so its points can only be written`;
    report(['points', name], `${why}: make it \`writable: true\`.`);
  }
}

function checkPoint(point: PointConfig, device: DeviceConfig, report: Report): void {
  const register = parseRegister(point.register);
  const type = pointType(point);
  if (isBitTable(register.table)) checkBitPoint(point, register, report);
  else checkRegisterPoint(point, type, report);
  checkPlace(point, register, device, report);
  checkSunspec(point, register, report);
  checkNumberFields(point, type, report);
  checkSentinels(point, type, report);
  if (point.writable && !isWritableTable(register.table)) {
    report(['writable'], `${register.table} registers cannot be written; coils and holding registers can.`);
  }
  if (!point.writable && point.write !== undefined) {
    report(['write'], 'limits what may be written, but the point is not `writable: true`.');
  }
}

function checkPlace(point: PointConfig, register: RegisterAddress, device: DeviceConfig, report: Report): void {
  const { address, quantity } = pointSpan(point);
  const last = address + quantity - 1;
  if (last > ADDRESS_MAX) {
    report(['register'], `${quantity} registers from ${address} end at ${last}; the last address is ${ADDRESS_MAX}.`);
  }
  if (!isBitTable(register.table) && quantity > device.max_registers) {
    report(
      [sizedBy(point)],
      `needs ${quantity} registers in one request; max_registers of the device is ${device.max_registers}.`,
    );
  }
  if (register.table === 'coil' && device.coils_from_zero && last >= device.max_coils) {
    report(['register'], `with coils_from_zero only coils 0 to ${device.max_coils - 1} can be read (max_coils).`);
  }
}

/** The field that makes a point as long as it is. */
function sizedBy(point: PointConfig): keyof PointConfig {
  if (point.scale_register !== undefined) return 'scale_register';
  return point.length_registers === undefined ? 'type' : 'length_registers';
}

function checkSunspec(point: PointConfig, { table }: RegisterAddress, report: Report): void {
  if (point.scale_register !== undefined) {
    const scale = parseRegister(point.scale_register);
    if (scale.table !== table)
      report(['scale_register'], `must be in the table of register, ${table}, not ${scale.table}.`);
  }
  if (point.sunspec_models !== undefined && table !== 'holding') {
    report(['register'], `SunSpec models lie in holding registers, not ${table}.`);
  }
  for (const field of ['sunspec_models', 'scale_register'] as const) {
    if (point.writable && point[field] !== undefined) report(['writable'], `a point with ${field} can only be read.`);
  }
}

function checkBitPoint(point: PointConfig, register: RegisterAddress, report: Report): void {
  if (point.type !== undefined && point.type !== 'bool') {
    report(['type'], `${register.table} is a table of bits: the type is bool, not ${point.type}.`);
  }
  const registerFields = ['bit', 'byte', 'byte_order', 'length_registers', 'encoding'] as const;
  for (const field of registerFields) {
    if (point[field] !== undefined) report([field], `only for registers; ${register.table} is a table of bits.`);
  }
}

function checkRegisterPoint(point: PointConfig, type: PointType, report: Report): void {
  if (point.bit !== undefined && type !== 'bool') report(['bit'], `one bit is a bool, not ${type}.`);
  if (point.byte !== undefined && !['int8', 'uint8', 'string'].includes(type)) {
    report(['byte'], `only for int8, uint8 and string; the type is ${type}.`);
  }
  if (point.byte_order?.length === 8 && !['int64', 'uint64', 'float64'].includes(type)) {
    report(['byte_order'], `eight letters are for 64 bits; the type is ${type}. Allowed: ABCD, CDAB, BADC, DCBA.`);
  }
  if (type === 'string') {
    if (point.length_registers === undefined) report([], 'a string wants length_registers.');
    else if (point.writable && point.length_registers > WRITE_REGISTERS_MAX) {
      report(['length_registers'], `at most ${WRITE_REGISTERS_MAX} registers can be written at once.`);
    }
    return;
  }
  for (const field of ['length_registers', 'encoding'] as const) {
    if (point[field] !== undefined) report([field], `only for strings; the type is ${type}.`);
  }
}

function checkNumberFields(point: PointConfig, type: PointType, report: Report): void {
  const numberFields = ['scale', 'scale_register', 'offset', 'decimals', 'min', 'max', 'deadband'] as const;
  const isText = type === 'string' || type === 'bool';
  for (const field of numberFields) {
    if (point[field] === undefined) continue;
    if (isText) report([field], `only for numbers; the type is ${type}.`);
    else if (point.enum !== undefined) report([field], 'not with enum: its values are texts.');
  }
  if (point.scale === 0) report(['scale'], 'must not be 0.');
  if (isCrossed(point)) {
    report(['min'], `must not be above max (${point.max}).`);
  }
  if (point.enum === undefined) return;
  if (integerRange(type) === undefined) report(['enum'], `only for integers; the type is ${type}.`);
  checkEnum(point.enum, type, report);
}

function checkEnum(names: Readonly<Record<string, string>>, type: PointType, report: Report): void {
  const seen = new Map<string, string>();
  const range = integerRange(type);
  for (const [code, text] of Object.entries(names)) {
    const other = seen.get(text);
    if (other !== undefined) report(['enum', code], `${JSON.stringify(text)} stands for ${other} already.`);
    seen.set(text, code);
    if (range !== undefined && (BigInt(code) < range.min || BigInt(code) > range.max)) {
      report(['enum', code], `${type} holds ${range.min} to ${range.max}.`);
    }
  }
}

function checkSentinels(point: PointConfig, type: PointType, report: Report): void {
  for (const [index, sentinel] of (point.sentinels ?? []).entries()) {
    const fault = sentinelFault(sentinel, type);
    if (fault !== undefined) report(['sentinels', index], fault);
  }
}

function sentinelFault(sentinel: number | string, type: PointType): string | undefined {
  if (type === 'string') return undefined;
  if (type === 'bool') return 'a bool has no sentinels.';
  if (FLOAT_TYPES.has(type)) {
    return typeof sentinel === 'string' && !(sentinel.trim() !== '' && Number.isFinite(Number(sentinel)))
      ? `${JSON.stringify(sentinel)} is not a number.`
      : undefined;
  }
  if (typeof sentinel === 'number' && !Number.isSafeInteger(sentinel)) {
    return `${sentinel} is not an exact integer; write integers beyond 2^53 in quotes, "0xFFFFFFFFFFFFFFFF".`;
  }
  if (typeof sentinel === 'string' && !/^(?:-?\d+|0x[0-9a-f]+)$/i.test(sentinel)) {
    return `${JSON.stringify(sentinel)} is not an integer.`;
  }
  const range = integerRange(type);
  const value = asTyped(BigInt(sentinel), type);
  if (range === undefined || (value >= range.min && value <= range.max)) return undefined;
  return `${sentinel} does not fit a ${type}.`;
}
