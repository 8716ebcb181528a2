// NMEA 0183: the sentences that people have, and the names of their values.

/** How a field is read: `latitude` and `longitude` take the hemisphere from the field behind it. */
export type NmeaFieldKind = 'number' | 'integer' | 'string' | 'latitude' | 'longitude' | 'time' | 'valid';

/** Index of the field after the sentence's name, which is 0. */
type SentenceFields = Readonly<Record<string, readonly [index: number, kind: NmeaFieldKind]>>;

/** Names and places: NMEA 0183, "Approved sentence formatters". */
export const NMEA_SENTENCES = {
  GGA: {
    utc_time: [1, 'time'],
    latitude: [2, 'latitude'],
    longitude: [4, 'longitude'],
    fix_quality: [6, 'integer'],
    satellites: [7, 'integer'],
    hdop: [8, 'number'],
    altitude: [9, 'number'],
  },
  RMC: {
    utc_time: [1, 'time'],
    valid: [2, 'valid'],
    latitude: [3, 'latitude'],
    longitude: [5, 'longitude'],
    speed_knots: [7, 'number'],
    course: [8, 'number'],
    date: [9, 'string'],
  },
  GLL: { latitude: [1, 'latitude'], longitude: [3, 'longitude'], utc_time: [5, 'time'], valid: [6, 'valid'] },
  VTG: { course: [1, 'number'], speed_knots: [5, 'number'], speed_kmh: [7, 'number'] },
  HDT: { heading_true: [1, 'number'] },
  HDG: { heading_magnetic: [1, 'number'] },
  DBT: { depth_feet: [1, 'number'], depth: [3, 'number'] },
  DPT: { depth: [1, 'number'], depth_offset: [2, 'number'] },
  MTW: { water_temperature: [1, 'number'] },
  MWV: {
    wind_angle: [1, 'number'],
    wind_reference: [2, 'string'],
    wind_speed: [3, 'number'],
    wind_unit: [4, 'string'],
  },
  MDA: { pressure_bar: [3, 'number'], air_temperature: [5, 'number'], humidity: [9, 'number'] },
  VHW: { heading_true: [1, 'number'], water_speed_knots: [5, 'number'] },
} as const satisfies Record<string, SentenceFields>;

export type NmeaSentence = keyof typeof NMEA_SENTENCES;
export const NMEA_SENTENCE_NAMES = Object.keys(NMEA_SENTENCES) as [NmeaSentence, ...NmeaSentence[]];
