import { describe, expect, it } from 'vitest';
import { METER_UNIT, Site, SiteFault, TANK_UNIT } from '../../../../modules/simulator/site.ts';

const START_MS = Date.UTC(2026, 5, 1);
const MINUTE_MS = 60_000;

function float(registers: readonly number[]): number {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16BE(registers[0] ?? 0, 0);
  bytes.writeUInt16BE(registers[1] ?? 0, 2);
  return bytes.readFloatBE();
}

function energy(site: Site): number {
  return site.readRegisters(METER_UNIT, 'input', 8, 4).reduce((sum, register) => sum * 65_536 + register, 0) / 100;
}

function power(site: Site): number {
  return float(site.readRegisters(METER_UNIT, 'input', 4, 2));
}

function level(site: Site): number {
  return float(site.readRegisters(TANK_UNIT, 'input', 0, 2));
}

function code(action: () => unknown): number | undefined {
  try {
    action();
  } catch (error) {
    if (error instanceof SiteFault) return error.modbusErrorCode;
    throw error;
  }
  return undefined;
}

describe('the meter', () => {
  it('counts the energy that it shows as power', () => {
    const site = new Site(START_MS);
    const before = energy(site);
    let kilowattHours = 0;
    for (let second = 1; second <= 3600; second += 1) {
      site.advanceTo(START_MS + second * 1000);
      kilowattHours += power(site) / 3_600_000;
    }
    expect(energy(site) - before).toBeGreaterThan(0.5);
    expect(Math.abs(energy(site) - before - kilowattHours)).toBeLessThan(0.03);
  });

  it('moves plausibly for a day, and its counter never runs backwards', () => {
    const site = new Site(START_MS);
    const volts = new Set<number>();
    let counted = energy(site);
    for (let minute = 1; minute <= 24 * 60; minute += 1) {
      site.advanceTo(START_MS + minute * MINUTE_MS);
      const value = float(site.readRegisters(METER_UNIT, 'input', 0, 2));
      expect(value).toBeGreaterThan(225);
      expect(value).toBeLessThan(235);
      volts.add(value);
      expect(energy(site)).toBeGreaterThanOrEqual(counted);
      counted = energy(site);
    }
    expect(volts.size).toBeGreaterThan(50);
  });

  it('goes on counting after a restart', () => {
    const site = new Site(START_MS);
    expect(energy(new Site(START_MS + MINUTE_MS))).toBeGreaterThan(energy(site));
  });

  it('switches the site off by its relay', () => {
    const site = new Site(START_MS);
    site.writeCoil(METER_UNIT, 0, false);
    expect(power(site)).toBe(0);
    const before = level(site);
    site.advanceTo(START_MS + MINUTE_MS);
    expect(level(site)).toBeLessThan(before);
    site.writeCoil(METER_UNIT, 0, true);
    expect(power(site)).toBeGreaterThan(500);
  });
});

describe('the tank', () => {
  it('is neither empty nor full for a day, and its pump goes on and off', () => {
    const site = new Site(START_MS);
    const states = new Set<boolean>();
    for (let minute = 1; minute <= 24 * 60; minute += 1) {
      site.advanceTo(START_MS + minute * MINUTE_MS);
      expect(level(site)).toBeGreaterThan(1000);
      expect(level(site)).toBeLessThan(4700);
      states.add(site.readBit(TANK_UNIT, 'coil', 0));
    }
    expect(states.size).toBe(2);
  });

  it('fills slower with a slower pump', () => {
    const [fast, slow] = [new Site(START_MS), new Site(START_MS)];
    slow.writeRegister(TANK_UNIT, 0, 10);
    expect(slow.readRegisters(TANK_UNIT, 'holding', 0, 1)).toEqual([10]);
    for (const site of [fast, slow]) site.advanceTo(START_MS + MINUTE_MS);
    expect(level(slow)).toBeLessThan(level(fast));
  });
});

it('refuses other addresses, units and values with the specified exceptions', () => {
  const site = new Site(START_MS);
  expect(code(() => site.readRegisters(METER_UNIT, 'input', 11, 2))).toBe(2);
  expect(code(() => site.readRegisters(METER_UNIT, 'holding', 0, 1))).toBe(2);
  expect(code(() => site.readBit(METER_UNIT, 'coil', 1))).toBe(2);
  expect(code(() => site.writeCoil(TANK_UNIT, 1, true))).toBe(2);
  expect(code(() => site.writeRegister(METER_UNIT, 0, 1))).toBe(2);
  expect(code(() => site.writeRegister(TANK_UNIT, 0, 101))).toBe(3);
  expect(code(() => site.readRegisters(3, 'input', 0, 1))).toBe(11);
  expect(code(() => site.writeCoil(3, 0, true))).toBe(11);
});
