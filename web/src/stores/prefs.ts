/** How this person wants the screens: language, night, elder. Nothing here is about a patient. */
import { defineStore } from 'pinia'
import { ref, watchEffect } from 'vue'
import { locale, type Locale } from '@/i18n'

const STORE = 'wardstream.look'
const NIGHT_FROM_HOUR = 22
const NIGHT_TO_HOUR = 6

type Shade = 'auto' | 'day' | 'night'

interface Look {
  locale: Locale
  shade: Shade
  elder: boolean
}

function read(): Look {
  const fallback: Look = { locale: navigator.language.startsWith('en') ? 'en' : 'zh', shade: 'auto', elder: false }
  try {
    return { ...fallback, ...(JSON.parse(localStorage.getItem(STORE) ?? '{}') as Partial<Look>) }
  } catch {
    return fallback
  }
}

function hourInHospital(): number {
  const said = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', hour12: false, timeZone: 'Asia/Shanghai' })
  return Number(said.format(new Date()))
}

export const usePrefs = defineStore('prefs', () => {
  const look = read()
  const shade = ref<Shade>(look.shade)
  const elder = ref(look.elder)
  const isNight = ref(false)
  locale.value = look.locale

  function followTheClock(): void {
    const hour = hourInHospital()
    const isDark = hour >= NIGHT_FROM_HOUR || hour < NIGHT_TO_HOUR
    isNight.value = shade.value === 'night' || (shade.value === 'auto' && isDark)
  }
  setInterval(followTheClock, 60_000)

  watchEffect(() => {
    followTheClock()
    const root = document.documentElement
    root.classList.toggle('dark', isNight.value)
    root.classList.toggle('elder', elder.value)
    root.lang = locale.value === 'zh' ? 'zh-CN' : 'en'
    localStorage.setItem(STORE, JSON.stringify({ locale: locale.value, shade: shade.value, elder: elder.value }))
  })

  function toggleNight(): void {
    shade.value = isNight.value ? 'day' : 'night'
  }

  return { shade, elder, isNight, toggleNight }
})
