// The simulated site: an electricity meter that feeds a pump, and the tank that the pump fills. Pure state; the server
// moves it on to the present before each request.

/** Unit ids. */
export const METER_UNIT = 1;
export const TANK_UNIT = 2;

const HOUR_MS = 3_600_000;
/** Day zero of the energy counter: 2026-01-01 UTC. */
const METERED_SINCE_MS = 1_767_225_600_000;
/** What the counter gained per hour before the start: about the mean of the simulated load. */
const MEAN_POWER_KW = 2.4;
/** Longest step of the integration. */
const STEP_MS = 1000;

const NOMINAL_VOLTS = 230;
const NOMINAL_HERTZ = 50;
const BASE_LOAD_WATTS = 900;
const PUMP_LOAD_WATTS = 2200;
const POWER_FACTOR = 0.93;

/** Liters a second in through the running pump at full speed, and out to the consumers. */
const INFLOW = 4.5;
const OUTFLOW = 2;
const TANK_LITERS = 5000;
/** Shares of the tank between which its controller keeps the level. */
const PUMP_ON_BELOW = 0.35;
const PUMP_OFF_ABOVE = 0.85;

/** One value of a register table; the encodings are those of the site's register map (README). */
type Cell = { readonly float32: number } | { readonly uint64: bigint } | { readonly int16: number };

export type Table = 'coil' | 'discrete' | 'input' | 'holding';

/** The address or the unit is not there: exception codes 2 and 11 of the MODBUS Application Protocol V1.1b3, section 7. */
export class SiteFault extends Error {
  // The name under which modbus-serial looks for it.
  readonly modbusErrorCode: number;

  constructor(modbusErrorCode: number) {
    super(`Modbus exception ${modbusErrorCode}`);
    this.modbusErrorCode = modbusErrorCode;
  }
}

export const ILLEGAL_ADDRESS = 2;
export const ILLEGAL_VALUE = 3;
export const NO_SUCH_UNIT = 11;

export class Site {
  #nowMs: number;
  #energyWattHours: number;
  #liters = TANK_LITERS * 0.6;
  #relayClosed = true;
  #pumpRuns = true;
  #pumpSpeedPercent = 80;

  constructor(startWallMs: number) {
    this.#nowMs = startWallMs;
    this.#energyWattHours = Math.max(0, (startWallMs - METERED_SINCE_MS) / HOUR_MS) * MEAN_POWER_KW * 1000;
  }

  /** Moves the site on. */
  advanceTo(wallMs: number): void {
    while (this.#nowMs < wallMs) {
      const stepMs = Math.min(STEP_MS, wallMs - this.#nowMs);
      this.#nowMs += stepMs;
      this.#energyWattHours += this.#powerWatts() * (stepMs / HOUR_MS);
      const inflow = this.#pumpTurns() ? INFLOW * (this.#pumpSpeedPercent / 100) : 0;
      const outflow = OUTFLOW * (1 + 0.4 * this.#wave(97_000));
      this.#liters = Math.min(TANK_LITERS, Math.max(0, this.#liters + ((inflow - outflow) * stepMs) / 1000));
      if (this.#liters < TANK_LITERS * PUMP_ON_BELOW) this.#pumpRuns = true;
      if (this.#liters > TANK_LITERS * PUMP_OFF_ABOVE) this.#pumpRuns = false;
    }
  }

  /** @throws SiteFault */
  readRegisters(unit: number, table: 'input' | 'holding', address: number, quantity: number): number[] {
    const registers = this.#registers(unit, table);
    if (address + quantity > registers.length) throw new SiteFault(ILLEGAL_ADDRESS);
    return registers.slice(address, address + quantity);
  }

  /** @throws SiteFault */
  readBit(unit: number, table: 'coil' | 'discrete', address: number): boolean {
    const state = this.#bits(unit, table)[address];
    if (state === undefined) throw new SiteFault(ILLEGAL_ADDRESS);
    return state;
  }

  /** @throws SiteFault */
  writeCoil(unit: number, address: number, state: boolean): void {
    this.#bits(unit, 'coil');
    if (address !== 0) throw new SiteFault(ILLEGAL_ADDRESS);
    if (unit === METER_UNIT) this.#relayClosed = state;
    else this.#pumpRuns = state;
  }

  /** @throws SiteFault */
  writeRegister(unit: number, address: number, value: number): void {
    if (address >= this.#registers(unit, 'holding').length) throw new SiteFault(ILLEGAL_ADDRESS);
    if (value > 100) throw new SiteFault(ILLEGAL_VALUE);
    this.#pumpSpeedPercent = value;
  }

  #registers(unit: number, table: 'input' | 'holding'): number[] {
    if (unit === METER_UNIT) return table === 'input' ? registersOf(this.#meterCells()) : [];
    if (unit !== TANK_UNIT) throw new SiteFault(NO_SUCH_UNIT);
    return registersOf(table === 'input' ? this.#tankCells() : [{ int16: this.#pumpSpeedPercent }]);
  }

  #bits(unit: number, table: 'coil' | 'discrete'): boolean[] {
    if (unit === METER_UNIT) return table === 'coil' ? [this.#relayClosed] : [];
    if (unit !== TANK_UNIT) throw new SiteFault(NO_SUCH_UNIT);
    return table === 'coil' ? [this.#pumpRuns] : [this.#liters >= TANK_LITERS * 0.95, this.#liters < TANK_LITERS * 0.1];
  }

  #meterCells(): Cell[] {
    const power = this.#powerWatts();
    const volts = this.#volts();
    return [
      { float32: round(volts, 2) },
      { float32: round(power / (volts * POWER_FACTOR), 3) },
      { float32: round(power, 1) },
      { float32: round(NOMINAL_HERTZ + 0.03 * this.#wave(23_000) + 0.01 * this.#wave(4100), 3) },
      { uint64: BigInt(Math.floor(this.#energyWattHours / 10)) },
    ];
  }

  #tankCells(): Cell[] {
    const celsius = 14 + 2.5 * this.#wave(600_000) + 0.2 * this.#wave(17_000);
    return [{ float32: round(this.#liters, 1) }, { int16: Math.round(celsius * 10) }];
  }

  #pumpTurns(): boolean {
    return this.#pumpRuns && this.#relayClosed;
  }

  #powerWatts(): number {
    if (!this.#relayClosed) return 0;
    const base = BASE_LOAD_WATTS * (1 + 0.15 * this.#wave(61_000) + 0.04 * this.#wave(7300));
    return (
      base + (this.#pumpRuns ? PUMP_LOAD_WATTS * (this.#pumpSpeedPercent / 100) * (1 + 0.02 * this.#wave(3100)) : 0)
    );
  }

  #volts(): number {
    return NOMINAL_VOLTS + 1.8 * this.#wave(45_000) + 0.5 * this.#wave(5300) - this.#powerWatts() / 2500;
  }

  /** -1 to 1 with that period. */
  #wave(periodMs: number): number {
    return Math.sin(((this.#nowMs % periodMs) / periodMs) * 2 * Math.PI);
  }
}

function round(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}

/** Big-endian, most significant word first: ABCD. */
function registersOf(cells: readonly Cell[]): number[] {
  return cells.flatMap((cell) => {
    const bytes = Buffer.alloc('uint64' in cell ? 8 : 'float32' in cell ? 4 : 2);
    if ('uint64' in cell) bytes.writeBigUInt64BE(cell.uint64);
    else if ('float32' in cell) bytes.writeFloatBE(cell.float32);
    else bytes.writeInt16BE(cell.int16);
    return Array.from({ length: bytes.length / 2 }, (_, index) => bytes.readUInt16BE(index * 2));
  });
}
