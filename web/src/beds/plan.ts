/** Where rooms and beds lie on the drawing of a ward: rooms side by side, as wide as their beds, wrapped at the width. */
import type { Bed, Sex } from '@/api/pool'
import { byCode, roomsOf, sexOfRoom } from '@/beds/state'

export const TILE = { width: 112, height: 76, gap: 8 } as const
const ROOM = { padding: 10, title: 28, gap: 12, columnsMax: 3 } as const

export interface PlacedBed {
  bed: Bed
  x: number
  y: number
}

export interface PlacedRoom {
  room: string
  sex: Sex | null
  hasIsolation: boolean
  x: number
  y: number
  width: number
  height: number
  beds: PlacedBed[]
}

export interface WardPlan {
  width: number
  height: number
  rooms: PlacedRoom[]
}

/** Draw the ward into `widthMax` pixels; a room is never cut, and beds keep the order of their numbers. */
export function planOf(beds: readonly Bed[], widthMax: number): WardPlan {
  const rooms = [...roomsOf([...beds].sort(byCode))]
  const placed: PlacedRoom[] = []
  let x = 0
  let y = 0
  let rowHeight = 0
  let width = 0
  const tilesAcross = Math.max(1, Math.floor((widthMax - 2 * ROOM.padding + TILE.gap) / (TILE.width + TILE.gap)))
  for (const [room, inRoom] of rooms) {
    // Four beds stand two by two, as they do in the room.
    const columns = Math.min(inRoom.length === 4 ? 2 : ROOM.columnsMax, tilesAcross, inRoom.length)
    const rows = Math.ceil(inRoom.length / columns)
    const roomWidth = 2 * ROOM.padding + columns * TILE.width + (columns - 1) * TILE.gap
    const roomHeight = ROOM.title + ROOM.padding + rows * TILE.height + (rows - 1) * TILE.gap
    if (x > 0 && x + roomWidth > widthMax) {
      x = 0
      y += rowHeight + ROOM.gap
      rowHeight = 0
    }
    placed.push({
      room,
      sex: sexOfRoom(inRoom),
      hasIsolation: inRoom.some((bed) => bed.isolation),
      x,
      y,
      width: roomWidth,
      height: roomHeight,
      beds: inRoom.map((bed, index) => ({
        bed,
        x: x + ROOM.padding + (index % columns) * (TILE.width + TILE.gap),
        y: y + ROOM.title + Math.floor(index / columns) * (TILE.height + TILE.gap),
      })),
    })
    x += roomWidth + ROOM.gap
    rowHeight = Math.max(rowHeight, roomHeight)
    width = Math.max(width, x - ROOM.gap)
  }
  return { width: Math.max(width, 1), height: y + rowHeight, rooms: placed }
}
